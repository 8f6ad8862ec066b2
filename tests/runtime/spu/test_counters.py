"""The cost models of SPU's protocols against its own counters, as committed in counters.json (see cases.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mpcc import registry
from mpcc.cost import LAN, estimate_graph
from tests.models.spu_cases import AMORTISED, CASES, cases_of

COUNTERS: dict[str, Any] = json.loads((Path(__file__).parent / "counters.json").read_text())["protocols"]
SHARED_ZERO = 24
ZERO_MESSAGES = 3
"""Bytes and messages with which ABY3 turns the start of a sum or a maximum (a public number, once a program) into a share."""


def measured(protocol: str) -> list[str]:
    return sorted(COUNTERS[protocol]["cases"])


def test_the_counters_are_of_the_version_that_the_cost_models_name() -> None:
    for name, found in COUNTERS.items():
        assert f"SPU {found['spu']}" in registry.protocol(name).source and found["date"]
        assert found["cases"].keys() <= set(cases_of(name)) and len(found["cases"]) > 15


@pytest.mark.parametrize("name", measured("semi2k"))
def test_semi2k_is_equal_in_bytes_and_hops(name: str) -> None:
    """Both parties speak at once: the hops are the messages of one of them."""
    found = COUNTERS["semi2k"]["cases"][name]
    estimate = estimate_graph(CASES[name]()[0], registry.protocol("semi2k"), LAN)
    assert (estimate.bytes, 2 * estimate.rounds, estimate.messages) == (found["bytes"], found["sends"], found["sends"])


@pytest.mark.parametrize("name", measured("aby3"))
def test_aby3_totals_are_exact_but_for_a_zero_that_is_shared(name: str) -> None:
    found = COUNTERS["aby3"]["cases"][name]
    estimate = estimate_graph(CASES[name]()[0], registry.protocol("aby3"), LAN)
    assert found["bytes"] - float(estimate.bytes) in range(0, 2 * SHARED_ZERO + 1, SHARED_ZERO)
    assert found["sends"] - float(estimate.messages) in range(0, 2 * ZERO_MESSAGES + 1, ZERO_MESSAGES)


@pytest.mark.parametrize("name", measured("cheetah"))
def test_cheetah_is_within_a_twentieth_once_it_is_warm(name: str) -> None:
    """What one more copy costs in a program that has had one, at the sizes of a ViT-Lite block."""
    found, protocol = COUNTERS["cheetah"]["cases"][name], registry.protocol("cheetah")
    one, two = (float(estimate_graph(AMORTISED[name](count)[0], protocol, LAN).bytes) for count in (1, 2))
    assert two - one == pytest.approx(found["bytes"], rel=0.05)
