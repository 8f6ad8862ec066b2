"""`softmax_grid` on rows of any width: shifted by as little as is enough, and right in fixed point and between parties."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn

import mpcc
from mpcc import registry
from mpcc.approximate import Choice, Plan
from mpcc.pipeline import Prepared, prepare
from mpcc.program.program import FLOOD_REACH
from mpcc.testing.cases import Case
from mpcc.testing.contracts import CLAUSES, candidates_of

TOKENS = 17
SHIFTS = {4.0: [], 8.0: [], 15.0: [2.0], 28.0: [3.0], 40.0: [4.0, 2.0], 80.0: [6.0, 2.0]}
"""Height of the highest peak over the rest of its row -> the temperatures of the shifts."""


class Softmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(-1)


def rows(peak: float, calls: int = 64) -> Tensor:
    """[calls, 1, 8, TOKENS]: one logit of each row stands out, by up to `peak`."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(calls, 1, 8, TOKENS, generator=generator) * min(2.0, peak / 8)
    places = torch.randint(TOKENS, (calls, 1, 8, 1), generator=generator)
    return x.scatter_add(-1, places, peak * torch.linspace(0, 1, calls * 8).reshape(calls, 1, 8, 1))


@cache
def prepared(peak: float) -> Prepared:
    return prepare(Softmax(), (rows(peak)[0],), calibration=rows(peak))


def plan(peak: float, rank: int = 0) -> Plan:
    (site, statistics), = prepared(peak).statistics.items()  # fmt: skip
    options = registry.approximation("softmax_grid").candidates(statistics)[rank]
    return Plan({site: Choice("softmax_grid", dict(options))})


@pytest.mark.parametrize("peak", SHIFTS)
def test_as_few_shifts_as_are_enough(peak: float) -> None:
    (choice,) = plan(peak).choices.values()
    assert isinstance(choice, Choice)
    assert [shift[0] for shift in choice.options.get("shifts", [])] == SHIFTS[peak]


@pytest.mark.parametrize("peak", SHIFTS)
def test_the_contract_on_wide_rows(peak: float) -> None:
    grid = registry.approximation("softmax_grid")
    case = Case("softmax", (rows(peak, 8).double()[:, 0],), lambda x: x.softmax(-1), (-1,))
    assert candidates_of(grid, case)
    for clause in CLAUSES:
        clause(grid, case)


@pytest.mark.parametrize("peak", SHIFTS)
def test_in_fixed_point(peak: float) -> None:
    executable = mpcc.compile(Softmax(), (rows(peak)[0],), plan=plan(peak), calibration=rows(peak))
    x = rows(peak).flatten(0, 1)  # 64 inputs of one image
    assert (executable.emulate(x) - x.softmax(-1)).abs().max() < 0.01


def test_two_grids_span_what_one_does_not() -> None:
    (one,), (two,) = (plan(peak).choices.values() for peak in (4.0, 8.0))
    assert isinstance(one, Choice) and isinstance(two, Choice)
    assert "near" not in one.options and two.options["near"]


def test_two_grids_between_parties() -> None:
    executable = mpcc.compile(Softmax(), (rows(8.0)[0],), plan=plan(8.0), calibration=rows(8.0))
    x = rows(8.0)[-1]
    allowed = 0.01 + FLOOD_REACH * executable.program.flood[0]  # the noise is another in each run
    assert (executable.run(x).output - x.softmax(-1)).abs().max() < allowed


def test_a_row_that_no_grid_spans_is_left_to_others() -> None:
    (statistics,) = prepared(400.0).statistics.values()
    assert registry.approximation("softmax_grid").candidates(statistics) == ()
