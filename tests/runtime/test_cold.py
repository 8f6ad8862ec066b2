"""How much slower kernels are after a pause is measured by both ends in step."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from mpcc.runtime import benchmark
from mpcc.runtime.benchmark import WAKE_SIZE, Case, cases, cold_share, joined
from mpcc.runtime.session.session import connected

FEW = [replace(case, size=WAKE_SIZE) for case in list(cases(32))[:3]]


def both_ends(found: Sequence[Case], took: Sequence[float]) -> float:
    """What the first of two ends finds."""
    ours, theirs = connected()
    shares = list[float]()

    def other() -> None:
        with joined(theirs) as channel:
            cold_share(channel, found)

    thread = threading.Thread(target=other)
    thread.start()
    with joined(ours) as channel:
        shares.append(cold_share(channel, found, took))
        assert channel.link is None
    thread.join()
    return shares[0]


def test_it_is_what_a_round_takes_beyond_its_kernels_and_half_a_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "WAKES", 10)
    assert both_ends(FEW, [1e3] * 3) == 0.0  # kernels were as slow before: nothing is added
    assert both_ends(FEW, [1e-9] * 3) > 1  # nothing of it was known


def test_an_end_that_has_no_kernels_only_answers() -> None:
    assert both_ends([], []) == 0.0
