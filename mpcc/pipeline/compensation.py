"""The step after the choice: weights behind structural choices made anew (`mpcc.compensate`), and the program made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mpcc import registry
from mpcc.approximate import Plan
from mpcc.calibration.basis import ENOUGH
from mpcc.compensate import Compensated, Judge, Report, compensated
from mpcc.compensate.compensated import structural_sites
from mpcc.cost import Budget
from mpcc.errors import MpccError
from mpcc.search.metrics import Metric
from mpcc.search.pricing import Priced

from .steps import Prepared

NOTE = "compensation"
"""The note of a plan that says what compensation did."""
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


def wanted(plan: Plan, compensate: bool | None, given: bool) -> bool:
    """Whether to compensate a plan: a `given` one where it was compensated when it was made, others always; else as asked."""
    if not structural_sites(plan, registry.approximations()):
        return False
    return (not given or was_compensated(plan)) if compensate is None else compensate


def was_compensated(plan: Plan) -> bool:
    """Whether a plan belongs to compensated weights."""
    note: Any = plan.notes.get(NOTE)
    return isinstance(note, dict) and note.get("taken") is True


def found_for(prepared: Prepared, plan: Plan, metric: Metric) -> Compensated:
    """The graph and the plan compensated, or as they were with the reason."""
    judge = Judge(metric.loss, metric.drop, metric.drop_name)
    known, synthetic = registry.approximations(), not prepared.calibrated
    try:
        found = compensated(prepared.graph, plan, prepared.inputs, known, judge, synthetic=synthetic)
        return replace(found, report=replace(found.report, synthetic=prepared.basis.synthetic > 0))
    except MpccError as error:
        return Compensated(prepared.graph, plan, Report(False, error.what))


def repaired(
    prepared: Prepared, best: Priced, metric: Metric, budget: Budget | None, make: Callable[[Prepared, Plan], Priced],
    asked: bool,
) -> Repaired:  # fmt: skip
    """A plan with its program, compensated if that is better and its program can be made and meets the budget; on inputs made
    from the model only where the user `asked` for it."""
    if prepared.basis.synthetic and not asked:
        return Repaired(prepared, best, Report(False, TOO_FEW))
    found = found_for(prepared, best.plan, metric)
    if not found.report.taken:
        return Repaired(prepared, best, found.report)
    other = replace(prepared, graph=found.graph)
    try:
        priced = make(other, found.plan)
    except MpccError as error:
        return Repaired(prepared, best, replace(found.report, taken=False, why=f"no program of it can be made: {error.what}"))
    if budget is not None and not budget.met_by(priced.estimate):
        return Repaired(prepared, best, replace(found.report, taken=False, why="its program does not meet the budget"))
    return Repaired(other, priced, found.report)
