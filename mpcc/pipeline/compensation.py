"""The step after the choice: weights behind structural choices made anew (`mpcc.compensate`), and the program made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mpcc import registry
from mpcc.approximate import Plan
from mpcc.calibration.basis import ENOUGH
from mpcc.compensate import FULL, Compensated, Judge, Report, compensated
from mpcc.compensate.compensated import structural_sites
from mpcc.cost import Budget
from mpcc.errors import MpccError, PlanError, UsageError
from mpcc.search.metrics import CLASSES, Metric
from mpcc.search.pricing import Priced
from mpcc.search.task import Point

from .steps import Prepared, Progress, held

NOTE = "compensation"
"""The note of a plan that says what compensation did."""
MOST_STEPS = 100_000
"""Of gradient in each block: beyond, the number is a slip."""
TOO_FEW = (
    f"it needs {ENOUGH} inputs of your own (--calibration). On inputs made from the model it hurts in one case of four; "
    "--compensate tries"
)
"""Measured on the tuning half of benchmarks/zoo (docs/compensation.md)."""


@dataclass(frozen=True)
class Repaired:
    """The graph of `prepared` has the weights that the program was made with. `report`: None where nothing was tried."""

    prepared: Prepared
    priced: Priced
    report: Report | None = None


def check_asked(compensate: bool | None, reconstruct: int | None) -> None:
    """UsageError where both do not go together, or the steps are none that can be taken."""
    if reconstruct is not None and not 0 <= reconstruct <= MOST_STEPS:
        raise UsageError(f"{reconstruct} steps of reconstruction", hint=f"Give a number from 0 to {MOST_STEPS}.")
    if reconstruct and compensate is False:
        raise UsageError("reconstruction starts from compensation", hint="Leave --no-compensate or --reconstruct out.")


def wanted(plan: Plan, compensate: bool | None, given: bool) -> bool:
    """Whether to compensate a plan: as asked, else a `given` one where it was compensated when it was made, and others always
    where a choice is structural."""
    if compensate is not None:
        return compensate
    return was_compensated(plan) if given else bool(structural_sites(plan, registry.approximations()))


def possible(prepared: Prepared) -> bool:
    """Whether there are inputs enough, all of them the user's, for compensation to be expected to help."""
    return prepared.basis.synthetic == 0


def was_compensated(plan: Plan) -> bool:
    """Whether a plan belongs to compensated weights."""
    note: Any = plan.notes.get(NOTE)
    return isinstance(note, dict) and note.get("taken") is True


def to_be_compensated(point: Point) -> Point:
    """A point of a search that compared plans as they are once compensated: its plan asks for the same."""
    if not structural_sites(point.plan, registry.approximations()):
        return point
    return replace(point, plan=replace(point.plan, notes={**point.plan.notes, NOTE: {"taken": True, "steps": 0}}))


def steps_of(plan: Plan) -> int:
    """The steps of gradient that a plan was reconstructed with. PlanError where its note has no such number."""
    note: Any = plan.notes.get(NOTE)
    steps = note.get("steps", 0) if isinstance(note, dict) else 0
    if type(steps) is not int or not 0 <= steps <= MOST_STEPS:
        raise PlanError(f"the note {NOTE!r} is damaged", hint="Make the plan again with `mpcc optimize`.")
    return steps


def found_for(prepared: Prepared, plan: Plan, metric: Metric, steps: int, progress: Progress | None = None) -> Compensated:
    """The graph and the plan compensated, or as they were with the reason."""
    tell = progress or (lambda stage, done, total: None)
    whole = CLASSES if metric.labels is not None else metric  # inputs are shuffled: labels would be those of others
    judge = Judge(whole.loss, whole.drop, whole.drop_name)
    known, synthetic, effort = registry.approximations(), not prepared.calibrated, replace(FULL, steps=steps)
    try:
        found = compensated(
            prepared.graph, plan, prepared.inputs, known, judge, synthetic=synthetic, effort=effort,
            tell=lambda done, total: tell("compensate", done, total),
        )  # fmt: skip
        return replace(found, report=replace(found.report, synthetic=prepared.basis.synthetic > 0))
    except MpccError as error:
        return Compensated(prepared.graph, plan, Report(False, error.what))


def repaired(
    prepared: Prepared, best: Priced, metric: Metric, budget: Budget | None, make: Callable[[Prepared, Plan], Priced],
    asked: bool, steps: int, progress: Progress | None = None,
) -> Repaired:  # fmt: skip
    """A plan with its program, compensated if that is better and its program can be made and meets the budget; on inputs made
    from the model only where the user `asked` for it."""
    if not possible(prepared) and not asked:
        return Repaired(prepared, best, Report(False, TOO_FEW))
    found = found_for(prepared, best.plan, metric, steps, progress)
    if not found.report.taken:
        return Repaired(prepared, best, found.report)
    other = replace(prepared, graph=found.graph)
    try:
        priced = make(other, held(other, found.plan, tell=False))
    except MpccError as error:
        return Repaired(prepared, best, replace(found.report, taken=False, why=f"no program of it can be made: {error.what}"))
    if budget is not None and not budget.met_by(priced.estimate):
        return Repaired(prepared, best, replace(found.report, taken=False, why="its program does not meet the budget"))
    return Repaired(other, priced, found.report)
