"""mpcc profile: lists of protocols and networks, phases, layers and kinds that add up, and the picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpcc.cost import Compute
from mpcc.cost.machine import Machine

Mpcc = Callable[..., Any]
TABLES = "crypten-stock,semi2k,cheetah"


def test_lists_of_protocols_and_networks_are_compared(mpcc: Mpcc, model: Path) -> None:
    """Commas divide a list, also one with a network written as RTT,BANDWIDTH; what is named twice counts once."""
    answer = mpcc("profile", model, "--protocol", f"{TABLES},semi2k", "--network", "lan,20ms,100MB/s,wan", "--json")
    found = [(one["protocol"], one["network"]) for one in json.loads(answer.out)]
    links = ("lan", "20ms,100MB/s", "wan")
    assert found == [(name, link) for name in ("crypten-stock", "semi2k", "cheetah") for link in links]


def test_sites_kinds_and_layers_add_up(mpcc: Mpcc, model: Path) -> None:
    for one in json.loads(mpcc("profile", model, "--protocol", f"mpcc,{TABLES}", "--json").out):
        for rows in ("sites", "kinds", "layers"):
            for measure in ("rounds", "bytes") if one["protocol"] != "cheetah" else ("rounds",):
                assert sum(row[measure] for row in one[rows]) == pytest.approx(one["online"][measure])
        if one["protocol"] != "cheetah":
            assert sum(row["share"] for row in one["kinds"]) == pytest.approx(1)


def test_phases_are_told_apart(mpcc: Mpcc, model: Path) -> None:
    text = mpcc("profile", model, "--protocol", "mpcc").out
    assert "By phase" in text and "set-up, once per model" in text and "before the input" in text
    (found,) = json.loads(mpcc("profile", model, "--protocol", "mpcc", "--json").out)
    assert all(found[phase]["bytes"] > 0 for phase in ("online", "setup", "offline"))


def test_a_bundle_under_a_price_table_costs_what_its_plan_does(mpcc: Mpcc, model: Path, bundle: Path) -> None:
    both = ("--protocol", "mpcc,cheetah")
    said = mpcc("profile", model, *both).out, mpcc("profile", bundle, *both).out
    assert "cheetah: the model as it is" in said[0] and "cheetah: its plan, by price tables" in said[1]
    assert "the model as it is" not in mpcc("profile", model, "--protocol", "semi2k,cheetah").out


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_picture_is_written(mpcc: Mpcc, model: Path, tmp_path: Path, suffix: str) -> None:
    answer = mpcc("profile", model, "--protocol", TABLES, "--network", "lan,wan", "-o", f"cost.{suffix}")
    assert answer.code == 0 and f"wrote cost.{suffix}" in answer.err
    written = (tmp_path / f"cost.{suffix}").read_bytes()
    assert written.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix])
    if suffix == "svg":
        assert b"crypten-stock on wan" in written and b"fc1" in written
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-o", "cost.txt"), "unsupported image format '.txt'"),
        (("-o", "absent/cost.png"), "No such folder"),
        (("--symbolic", "-o", "cost.png"), "--picture cannot be combined with --symbolic"),
        (("--network", "lan,20ms"), "invalid network '20ms'"),
        (("--network", "lan,"), "invalid network"),
        (("--protocol", "semi2k,"), "there is no protocol called ''"),
        (("--protocol", "semi3k"), "did you mean 'semi2k'?"),
    ],
)
def test_what_cannot_be_drawn_or_is_unknown_is_refused(
    mpcc: Mpcc, model: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    before = sorted(tmp_path.iterdir())
    answer = mpcc("profile", model, *options)
    assert answer.code == 2 and said in answer.err
    assert sorted(tmp_path.iterdir()) == before


def test_the_machine_is_chosen_and_named(mpcc: Mpcc, model: Path, tmp_path: Path) -> None:
    file = Machine("2026-01-31", "a slow processor", "2.13", Compute("", per_kernel=1.0)).write(tmp_path / "slow.json")
    found = [
        json.loads(mpcc("profile", model, "--machine", machine, "--json").out)[0] for machine in ("reference", file)
    ]
    assert [one["machine"]["name"] for one in found] == ["reference", "a file"]
    assert found[0]["online"]["rounds"] == found[1]["online"]["rounds"]
    assert found[1]["online"]["seconds"] > 1 > found[0]["online"]["seconds"]
    assert "a slow processor" in mpcc("profile", model, "--machine", file).out
    refused = mpcc("profile", model, "--machine", "absent.json")
    assert refused.code == 2 and "invalid machine 'absent.json'" in refused.err
    made = json.loads(mpcc("optimize", model, "--machine", file, "--json").out)
    assert made["machine"] == made["plan"]["notes"]["machine"] == found[1]["machine"]


def test_what_the_traffic_costs(mpcc: Mpcc, bundle: Path) -> None:
    """Of 1,000 inferences, with and without a price; the price is that of the bytes in --json."""
    import json

    (found,) = json.loads(mpcc("profile", bundle, "--json").out)
    amount = found["online"]["bytes"] + found["offline"]["bytes"]
    assert "1,000 inferences" in mpcc("profile", bundle).out
    assert f"{1000 * amount * 1e6 / 1e9:,.2f} at 1e+06 per GB" in mpcc("profile", bundle, "--price-per-gb", "1e6").out
    assert mpcc("profile", bundle, "--price-per-gb", "-1").code == 2


def test_a_bundle_is_profiled_under_the_protocol_that_it_was_made_for(mpcc: Mpcc, model: Path, calibration: Path) -> None:
    how = ("--calibration", calibration, "--protocol", "semi2k", "-o", "s.mpcc")
    answer = mpcc("optimize", model, *how)
    assert answer.code == 0, answer.err
    assert "semi2k -> semi2k, rewritten" in answer.out
    found = json.loads(mpcc("profile", "s.mpcc", "--json").out)
    assert [one["protocol"] for one in found] == ["semi2k"]
    made = json.loads(mpcc("optimize", model, *how, "--json").out)["estimate"]
    assert found[0]["online"]["rounds"] == made["online"]["rounds"]
