"""mpcc profile --rounds: the schedule adds up to the program's cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Mpcc = Callable[..., Any]


def test_the_rounds_add_up_to_the_cost(mpcc: Mpcc, bundle: Path) -> None:
    found = json.loads(mpcc("profile", bundle, "--rounds", "--json").out)
    cost, rounds = found["cost"], found["rounds"]
    assert [row["number"] for row in rounds] == list(range(1, cost["rounds"] + 1))
    assert sum(row["server_bytes"] + row["client_bytes"] for row in rounds) == cost["bytes"]
    assert sum(max(row["server_bytes"], row["client_bytes"]) for row in rounds) == cost["busier_bytes"]
    for row in rounds:
        for party in ("server", "client"):
            sent = sum(part["bytes"] for part in row["sent"] if part["sender"] in ("both", party))
            assert 0 <= row[f"{party}_bytes"] - sent < 8
    revealed = {"site": "output", "primitive": "reveal", "sender": "server", "bits": 64, "values": 3, "bytes": 24}
    assert rounds[-1]["sent"] == [revealed]
    for phase, stated in (("setup", "setup_dealer_bytes"), ("offline", "dealer_bytes")):
        assert sum(8 * row["travelling_words"] for row in found["dealer"] if row["phase"] == phase) == cost[stated]


def test_as_text(mpcc: Mpcc, bundle: Path) -> None:
    text = mpcc("profile", bundle, "--rounds").out
    for words in ("server sends", "(client)", "Correlated randomness", "lookup tables of comparisons"):
        assert words in text


def test_only_our_own_protocol_has_a_schedule(mpcc: Mpcc, bundle: Path) -> None:
    answer = mpcc("profile", bundle, "--rounds", "--protocol", "semi2k")
    assert answer.code == 2 and "--rounds" in answer.err and "only mpcc" in answer.err
