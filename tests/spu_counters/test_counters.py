"""The cost models of SPU's protocols against its own counters, as committed in counters.json (see cases.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mpcc import registry
from mpcc.cost import LAN, estimate_graph

from .cases import CASES

COUNTERS: dict[str, Any] = json.loads((Path(__file__).parent / "counters.json").read_text())["protocols"]
SHARED_ZERO = 24
"""Bytes with which ABY3 turns the start of a sum or a maximum (a public number, once a program) into a share."""


def measured(protocol: str) -> list[str]:
    return sorted(COUNTERS[protocol]["cases"])


def test_the_counters_are_of_the_version_that_the_cost_models_name() -> None:
    for name, found in COUNTERS.items():
        assert f"SPU {found['spu']}" in registry.protocol(name).source and found["date"]
        assert set(found["cases"]) >= set(CASES) or name == "cheetah"


@pytest.mark.parametrize("name", measured("semi2k"))
def test_semi2k_is_equal_in_bytes_and_hops(name: str) -> None:
    """Both parties speak at once: the hops are the messages of one of them."""
    found = COUNTERS["semi2k"]["cases"][name]
    estimate = estimate_graph(CASES[name]()[0], registry.protocol("semi2k"), LAN)
    assert (estimate.bytes, 2 * estimate.rounds) == (found["bytes"], found["sends"])


@pytest.mark.parametrize("name", measured("aby3"))
def test_aby3_totals_are_within_a_hundredth(name: str) -> None:
    found = COUNTERS["aby3"]["cases"][name]
    estimate = estimate_graph(CASES[name]()[0], registry.protocol("aby3"), LAN)
    assert float(estimate.bytes) == pytest.approx(found["bytes"], rel=0.01, abs=2 * SHARED_ZERO)
