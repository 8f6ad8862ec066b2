"""Networks and budgets: what may be written, and what is refused."""

from __future__ import annotations

import pytest

from mpcc.cost import LAN, WAN, Budget, Network, PhaseCost
from mpcc.errors import UsageError


def test_a_preset_and_a_pair_of_quantities_are_networks() -> None:
    assert Network.parse("lan") is LAN and Network.parse(WAN) is WAN
    assert (LAN.rtt_seconds, LAN.bandwidth) == (0.3e-3, 125e6)
    assert (WAN.rtt_seconds, WAN.bandwidth) == (40e-3, 44e6)
    given = Network.parse("20ms,100MB/s")
    assert (given.rtt_seconds, given.bandwidth) == (0.02, 100e6)
    bits = Network.parse("500us, 1Gb/s")
    assert (bits.rtt_seconds, bits.bandwidth) == (0.0005, 125e6)


@pytest.mark.parametrize(
    "text", ["", "moon", "20ms", "20,100", "20ms,100MB", "-20ms,1MB/s", "20ms,0MB/s", "20lightyears,1MB/s", "1ms,2,3"]
)
def test_anything_else_is_no_network(text: str) -> None:
    with pytest.raises(UsageError, match="use lan, wan, or"):
        Network.parse(text)


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [("2s", 2, "seconds"), ("500ms", 0.5, "seconds"), ("1.5 min", 90, "seconds"), ("30MB", 30e6, "bytes"),
     ("1.5GB", 1.5e9, "bytes"), ("150rounds", 150, "rounds"), (" 1 round ", 1, "rounds")],
)  # fmt: skip
def test_a_budget_is_a_number_and_a_unit(text: str, amount: float, unit: str) -> None:
    assert Budget.parse(text) == Budget(pytest.approx(amount), unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["2parsecs", "2", "s", "", "-2s", "0s", "0.0MB", "nan s", "1e999s", "2 s s"])
def test_anything_else_is_no_budget(text: str) -> None:
    with pytest.raises(UsageError, match="budget"):
        Budget.parse(text)


def test_a_budget_is_met_by_what_stays_within_it() -> None:
    cost = PhaseCost(rounds=150, bytes=30_000_001, seconds=2.0)
    assert Budget.parse("2s").met_by(cost)
    assert Budget.parse("150rounds").met_by(cost)
    assert not Budget.parse("30MB").met_by(cost)
    assert Budget.parse("2min").spent(cost) == 2.0
