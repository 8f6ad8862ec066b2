"""Targets and objectives: both spellings, what is refused, and the machine, which decides only where it is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import mpcc
from mpcc import pipeline, registry
from mpcc.cost import Budget, Compute
from mpcc.cost.machine import CONSTANTS, Machine
from mpcc.errors import BudgetError, UsageError
from mpcc.search.questions import best_within_budget
from mpcc.search.search import Search
from mpcc.search.target import Objective, Target
from tests.models.two_blocks import two_blocks

IMAGES = torch.randn(16, 4, 8, generator=torch.Generator().manual_seed(1))
TIGHT = Objective("structural", budget="0.008s", effort=0.5)


def machine(factor: float) -> Machine:
    """The reference, so many times slower."""
    reference = registry.protocol("mpcc").compute
    seconds = {name: factor * getattr(reference, name) for name in CONSTANTS}
    return Machine("2026-01-31", f"a processor {factor:g}", "2.13", Compute("", **seconds))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return machine(0.01).write(tmp_path / "fast.json"), machine(1.5).write(tmp_path / "slow.json")


def levels(made: mpcc.Optimized) -> set[str]:
    return {registry.approximation(c.approximation).level for entry in made.plan.choices.values() for c in entry.choices}


def test_the_plan_is_that_of_the_machine_that_was_asked_for(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was measured here: the file of this machine decides only where no other one is named."""
    targets = [Target(machine=file) for file in files]
    fast, slow = (mpcc.optimize(*two_blocks(), calibration=IMAGES, target=target, objective=TIGHT) for target in targets)
    assert "structural" in levels(slow) and "structural" not in levels(fast)
    assert fast.estimate.seconds < 0.008 and slow.estimate.seconds < 0.008
    note = fast.plan.notes["machine"]
    assert note == fast.estimate.machine and note["name"] == "a file" and "a processor 0.01" in note["source"]
    assert note["fingerprint"] != slow.plan.notes["machine"]["fingerprint"]
    assert str(tmp_path) not in fast.plan.to_json()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Machine.here(machine(1.5).compute).write()
    again = mpcc.optimize(*two_blocks(), calibration=IMAGES, target=targets[0], objective=TIGHT)
    assert again.plan == fast.plan
    here = mpcc.optimize(*two_blocks(), calibration=IMAGES, objective=TIGHT)
    assert here.plan.choices == slow.plan.choices and here.plan.notes["machine"]["name"] == "this machine"


def test_the_report_names_the_machine(files: tuple[Path, Path], tmp_path: Path) -> None:
    bundle = mpcc.optimize(*two_blocks(), calibration=IMAGES, machine=files[1]).save(tmp_path / "b.mpcc")
    assert "a processor 1.5" in (bundle / "report.html").read_text(encoding="utf-8")


def test_both_spellings_ask_for_the_same() -> None:
    target = Target(network="wan", machine="reference")
    asked: dict[str, Any] = {"calibration": IMAGES}
    one = mpcc.optimize(*two_blocks(), target=target, objective=Objective("structural", budget="20rounds", effort=0.5), **asked)
    given: dict[str, Any] = {"network": "wan", "machine": "reference", "level": "structural", "budget": "20rounds", "effort": 0.5}
    other = mpcc.optimize(*two_blocks(), **given, **asked)
    assert one.plan == other.plan and one.program.digest == other.program.digest
    assert mpcc.estimate(*two_blocks(), target=target).to_json() == (
        mpcc.estimate(*two_blocks(), network="wan", machine="reference").to_json()
    )
    fronts = [
        pipeline.pareto(*two_blocks(), points=2, target=target, objective=Objective("bounded", effort=0.5), **asked),
        pipeline.pareto(*two_blocks(), points=2, network="wan", machine="reference", level="bounded", effort=0.5, **asked),
    ]
    assert [p.plan for p in fronts[0].points] == [p.plan for p in fronts[1].points]
    settings = Target().unchecked.settings
    compiled = [mpcc.compile(*two_blocks(), target=Target(settings=settings)), mpcc.compile(*two_blocks(), settings=settings)]
    assert len({one.program.digest for one in compiled if isinstance(one, mpcc.Executable)}) == 1


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"target": Target(), "network": "wan"}, "'network' is given twice"),
        ({"objective": Objective(), "budget": "2s"}, "'budget' is given twice"),
        ({"level": "brave"}, "unknown level 'brave'"),
        ({"protocol": "mpd"}, "no protocol called 'mpd'"),
        ({"network": "fast"}, "invalid network 'fast'"),
        ({"budget": "2parsecs"}, "invalid budget '2parsecs'"),
        ({"machine": "absent.json"}, "invalid machine 'absent.json'"),
        ({"protocol": "cheetah", "machine": "this"}, "price table of 'cheetah'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_done(given: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        mpcc.optimize(Path("there is no such model"), **given)


def test_a_misspelt_keyword_is_no_field() -> None:
    with pytest.raises(TypeError, match="'netwrok'"):
        mpcc.optimize(*two_blocks(), netwrok="wan")  # type: ignore[call-arg]


def test_a_front_has_no_bounds() -> None:
    with pytest.raises(UsageError, match="no bounds"):
        pipeline.pareto(*two_blocks(), budget="2s")


def test_asking_leaves_a_search_as_it_was() -> None:
    prepared = pipeline.prepare(*two_blocks(), calibration=IMAGES)
    search = Search.of(pipeline.task_of(prepared, objective=Objective("structural", effort=30.0)))  # it ends before
    before = search.problem
    first = best_within_budget(search, Budget.parse("15rounds"))
    best_within_budget(search, Budget.parse("3rounds"))
    again = best_within_budget(search, Budget.parse("15rounds"))
    assert search.problem is before and first is not None and again is not None
    assert first.point.plan == again.point.plan


def test_json_names_the_machine(files: tuple[Path, Path]) -> None:
    for file, processor in zip(files, ("a processor 0.01", "a processor 1.5"), strict=True):
        found = json.loads(mpcc.estimate(*two_blocks(), machine=file).to_json())
        assert processor in found["machine"]["source"] and len(found["machine"]["fingerprint"]) == 12


def test_a_budget_that_no_machine_meets_is_told_in_its_seconds(files: tuple[Path, Path]) -> None:
    found = []
    for file in files:
        with pytest.raises(BudgetError) as caught:
            mpcc.optimize(*two_blocks(), calibration=IMAGES, machine=file, level="structural", budget="1ms")
        found.append(caught.value.hint)
    assert found[0] != found[1]
