"""mpcc run: seconds beside what was predicted, and what follows where they disagree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mpcc.approximate import Plan
from mpcc.cli.predicted import Predicted, elsewhere
from mpcc.cost import Compute
from mpcc.cost.machine import Machine
from mpcc.pipeline import load
from mpcc.runtime import this_machine
from tests.cli.conftest import Mpcc

SLOW = Compute("x", per_kernel=100.0)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A measurement of this machine in a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Machine.here(SLOW).write()
    found = Machine.kept()
    assert found is not None
    return found


def test_a_run_near_its_prediction_needs_no_word(kept: Machine) -> None:
    predicted = Predicted(1, 1, 1.0, "this machine", kept)
    assert [predicted.verdict([took] * 3) for took in (0.76, 1.0, 1.24)] == [None] * 3
    assert Predicted(1, 1, None, "the network").verdict([100.0]) is None
    assert [Predicted(1, 1, 2e-4, "this machine", kept).verdict([took] * 2) for took in (1e-5, 4.5e-3)] == [None] * 2
    assert Machine.kept() is not None


@pytest.mark.parametrize("took", [0.7, 1.3])
def test_a_run_far_from_it_has_the_machine_measured_anew(kept: Machine, took: float) -> None:
    verdict = Predicted(1, 1, 1.0, "this machine", kept).verdict([5.0, took, took])
    assert verdict is not None and f"{took - 1:+.0%}" in verdict and "measures this machine anew" in verdict
    assert Machine.kept() is None


def test_the_first_inference_counts_only_where_there_is_no_other(kept: Machine) -> None:
    """Alone it may take longer for being the first, and blames the measurement only where it was faster."""
    short = Predicted(1, 1, 0.054, "this machine", kept)
    assert short.verdict([0.1]) is None and short.verdict([9.0, 0.05, 0.06]) is None
    assert "--repeat 5" in str(Predicted(1, 1, 1.0, "this machine", kept).verdict([1.4]))
    assert Machine.kept() is not None
    assert "anew" in str(Predicted(1, 1, 1.0, "this machine", kept).verdict([0.5]))
    assert Machine.kept() is None


def test_figures_of_another_place_are_compared_and_blame_nothing(kept: Machine) -> None:
    assert "the reference machine" in str(Predicted(1, 1, 1.0, "the reference machine").verdict([2.0]))
    assert Machine.kept() is not None


@pytest.mark.parametrize("notes", [{}, {"protocol": "semi2k", "seconds": 1.0}, {"protocol": "mpcc", "seconds": "fast"}])
def test_a_bundle_without_seconds_predicts_none(bundle: Path, notes: dict[str, Any]) -> None:
    executable = load(bundle)
    assert elsewhere(executable.program, Plan({}, notes)).seconds is None
    assert elsewhere(executable.program, executable.plan).seconds == executable.plan.notes["seconds"] > 0


@pytest.mark.slow
def test_mpcc_run_prints_both_and_marks_a_measurement_stale(mpcc: Mpcc, bundle: Path, image: Path, kept: Machine) -> None:
    answer = mpcc("run", bundle, "--input", image)
    assert answer.code == 0 and "on this machine" in answer.out and "measures this machine anew" in answer.err
    assert Machine.kept() is None
    with pytest.warns(match="could not be measured"), this_machine.speed_of(None) as speed:
        assert speed() is None
    again = mpcc("run", bundle, "--input", image, "--network", "1s,1MB/s", "--json")
    found = json.loads(again.out)
    assert found["predicted"]["seconds_of"] == "the reference machine"
    assert found["predicted"]["seconds"] > 1 and len(found["seconds"]) == 1
