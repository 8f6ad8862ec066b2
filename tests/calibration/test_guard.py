"""The client's guard: what is unlike calibration is said, what is like it is not; damaged statistics are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mpcc
from mpcc.calibration.guard import NOTE, Guard
from mpcc.errors import OutsideRange, PlanError, RangeError
from mpcc.runtime.executable import Executable

SHAPE = (1, 1, 8, 8)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))  # type: ignore[no-any-return]


def pictures(count: int, seed: int = 0) -> Tensor:
    """A bright square somewhere in the middle of a dark picture, 0 .. 1."""
    generator = torch.Generator().manual_seed(seed)
    made = torch.rand((count, 1, 8, 8), generator=generator) * 0.1
    for picture in made:
        row, column = torch.randint(2, 4, (2,), generator=generator).tolist()
        picture[0, row : row + 3, column : column + 3] += 0.8 + 0.1 * torch.rand((3, 3), generator=generator)
    return made


@pytest.fixture(scope="module")
def executable() -> Executable:
    torch.manual_seed(0)
    made = mpcc.compile(Head().eval(), (pictures(1),), calibration=pictures(64))
    assert isinstance(made, Executable)
    return made


@pytest.fixture(scope="module")
def guard(executable: Executable) -> Guard:
    assert executable.guard is not None
    return executable.guard


def judged(guard: Guard, values: Tensor) -> tuple[str, ...]:
    return guard.inputs_outside([(value[None],) for value in values])


def test_like_inputs_pass(guard: Guard) -> None:
    """2 % of them at most are warned of without need."""
    assert sum(bool(judged(guard, value[None])) for value in pictures(200, seed=1)) <= 4


UNLIKE: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "contrast": (lambda x: x * 1.5, "largest value"),
    "inverted": (lambda x: 1 - x, "mean"),
    "moved": (lambda x: x.roll(3, -1), "dimension 3"),
    "flat": (lambda x: x * 0 + 0.5, "smallest value 0.5"),
    "noise": (lambda x: torch.rand(x.shape, generator=torch.Generator().manual_seed(3)), "share of values at the lower"),
    "pixels": (lambda x: (x * 255).clamp(0, 255).round(), "raw pixels; calibrated "),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_unlike_inputs_are_told_with_what_was_calibrated(guard: Guard, name: str) -> None:
    change, said = UNLIKE[name]
    found = judged(guard, change(pictures(3, seed=2)))
    assert any(said in line and "calibrated" in line and "(3 of 3 inferences)" in line for line in found), found


def test_outputs_beyond_twice_the_calibrated_are_told(guard: Guard) -> None:
    largest = guard.outputs[0]
    assert guard.outputs_outside([(torch.tensor([[1.9 * largest]]),)]) == ()
    (line,) = guard.outputs_outside([(torch.tensor([[1.9 * largest]]),), (torch.tensor([[-2.1 * largest]]),)])
    assert "output 0" in line and "1 of 2" in line


def test_of_few_or_synthetic_inputs_only_the_extremes_are_compared() -> None:
    torch.manual_seed(0)
    graph = mpcc.capture(Head().eval(), (pictures(1),))
    for made in (Guard.of(graph, pictures(3), 3), Guard.of(graph, pictures(64), 0)):
        assert set(made.inputs[0].statistics) == {"smallest value", "largest value"}
        assert judged(made, pictures(1, seed=1).roll(3, -1)) == () and judged(made, pictures(1) * 2)


def test_emulation_warns(executable: Executable) -> None:
    with pytest.warns(OutsideRange, match="input x: largest value"):
        executable.emulate(pictures(1) * 1.5)


@pytest.mark.slow
def test_a_private_run_says_whether_it_was_in_range(executable: Executable) -> None:
    assert (run := executable.run(pictures(1, seed=5))).in_range and run.warnings == ()
    with pytest.warns(OutsideRange, match="largest value"):
        run = executable.run(pictures(1) * 1.5)
    assert not run.in_range and any("largest value" in line for line in run.warnings)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38, 2.0**46])
def test_numbers_that_do_not_fit_are_refused_before_anything_starts(executable: Executable, value: float) -> None:
    wrong = pictures(1)
    wrong[0, 0, 0, 0] = value
    for ask in (executable.run, executable.emulate):
        with pytest.raises(RangeError, match="infinite or NaN|1,048,576") as caught:
            ask(wrong)
        assert caught.value.where == "input x"


def test_it_travels_in_the_plan(executable: Executable, guard: Guard) -> None:
    document = json.loads(executable.plan.to_json())["notes"][NOTE]
    assert Guard.read(document, 1, 1) == guard and len(json.dumps(document)) < 1500


DAMAGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no object": lambda d: [1],
    "no calls": lambda d: d | {"calls": 0},
    "an interval of one": lambda d: d | {"inputs": [d["inputs"][0] | {"mean": [1]}]},
    "text": lambda d: d | {"outputs": ["1"]},
    "not finite": lambda d: d | {"outputs": [float("inf")]},
    "another number of inputs": lambda d: d | {"inputs": []},
    "no extremes": lambda d: d | {"inputs": [{"name": "x", "mean": [0, 1]}]},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_statistics_are_refused(guard: Guard, name: str) -> None:
    with pytest.raises(PlanError, match="guard"):
        Guard.read(DAMAGED[name](dict(guard.document())), 1, 1)
