"""mpcc optimize with --budget, --max-drop, --metric, --pareto and --verbose."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Mpcc


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_budget_is_met_and_verbose_shows_the_candidates(mpcc: Mpcc, model: Path, calibration: Path) -> None:
    answer = mpcc("optimize", model, "--calibration", calibration, "--budget", "9rounds", "--verbose", "-o", "b.mpcc")
    assert answer.code == 0, answer.err
    assert "Chosen from 1 candidates at 1 site(s)" in answer.out and "act.relu" in answer.out
    assert "Every site has a single Pareto-optimal candidate" in answer.out
    assert "\u2713 relu" in answer.out


def test_a_loss_is_kept(mpcc: Mpcc, model: Path, calibration: Path) -> None:
    answer = mpcc("optimize", model, "--calibration", calibration, "--max-drop", "0.5%", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)["search"]
    assert found["drop"] <= 0.005 and found["judged_on"] == 16 and found["metric"] == "KL divergence"


def test_the_front_is_a_folder_of_plans(mpcc: Mpcc, model: Path, calibration: Path, tmp_path: Path) -> None:
    for _ in range(2):  # an older front is replaced
        answer = mpcc("optimize", model, "--calibration", calibration, "--pareto", "-o", "front")
        assert answer.code == 0, answer.err
    assert "Pareto-optimal plans for" in answer.out
    names = {path.name for path in (tmp_path / "front").iterdir()}
    assert names == {"01.plan.json", "front.json", "front.png", "front.svg"}
    point = json.loads((tmp_path / "front" / "front.json").read_text())["points"][0]
    answer = mpcc("optimize", model, "--calibration", calibration, "--plan", "front/01.plan.json", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["estimate"]["online"]["rounds"] == point["rounds"]


def test_a_front_replaces_nothing_else(mpcc: Mpcc, model: Path, calibration: Path, own_bundle: Path) -> None:
    answer = mpcc("optimize", model, "--calibration", calibration, "--pareto", "-o", own_bundle)
    assert answer.code == 2 and "was not touched" in answer.err and (own_bundle / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--max-drop", "little"], "--max-drop"),
        (["--max-drop=-1%"], "--max-drop"),
        (["--max-drop", "5"], "Give 5%"),
        (["--effort=-1"], "effort"),
        (["--metric", "no_such_module:f", "--budget", "1s"], "--metric"),
        (["--pareto", "--budget", "1s"], "--pareto"),
    ],
)
def test_what_means_nothing_is_refused(mpcc: Mpcc, model: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    answer = mpcc("optimize", model, *arguments)
    assert answer.code == 2 and says in answer.err and "Traceback" not in answer.err
    assert list(tmp_path.iterdir()) == []


def test_several_budgets_write_several_bundles_and_say_which_cannot_be_met(mpcc: Mpcc, model: Path, calibration: Path) -> None:
    given = ("--calibration", calibration, "--machine", "reference", "--budget", "9rounds", "--budget", "30s", "-o", "a.mpcc")
    answer = mpcc("optimize", model, *given)
    assert answer.code == 0, answer.err
    assert "by budget" in answer.out and "a-9rounds.mpcc" in answer.out
    assert Path("a-9rounds.mpcc/manifest.json").is_file() and Path("a-30s.mpcc/manifest.json").is_file()
    answer = mpcc("optimize", model, *given, "--budget", "1rounds", "--json")
    assert answer.code == 1
    assert [row["met"] for row in json.loads(answer.out)] == [True, True, False] and not Path("a-1rounds.mpcc").exists()
    answer = mpcc("optimize", model, *given[:-2], "--budget", "9 rounds", "-o", "b.mpcc")
    assert answer.code == 2 and "given twice" in answer.err


def test_a_search_starts_from_a_plan_and_knows_labels(mpcc: Mpcc, model: Path, bundle: Path) -> None:
    generator = np.random.default_rng(3)
    np.savez("data.npz", input=generator.normal(size=(64, 4)).astype(np.float32), labels=generator.integers(0, 3, 64))
    given = ("--calibration", "data.npz", "--machine", "reference", "--from", bundle / "plan.json", "--labels", "data.npz")
    answer = mpcc("optimize", model, *given, "--max-drop", "1%", "-o", "c.mpcc")
    assert answer.code == 0, answer.err
    assert "Top-1 of the labels" in " ".join(answer.out.split()), answer.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--budget", "9s", "--budget", "8s", "--max-drop", "1%"], "--max-drop"),
        (["--labels", "folders"], "--labels belong to a search"),
        (["--from", "plan.json", "--budget", "9s"], "no such file"),
        (["--labels", "labels.npy", "--budget", "9s"], "no such file"),
        (["--labels", "folders", "--budget", "9s"], "64 inputs of your own"),
    ],
)
def test_what_belongs_to_another_question_is_refused(
    mpcc: Mpcc, model: Path, calibration: Path, arguments: list[str], says: str
) -> None:
    answer = mpcc("optimize", model, "--calibration", calibration, *arguments)
    assert answer.code == 2 and says in " ".join(answer.err.split()) and "Traceback" not in answer.err
