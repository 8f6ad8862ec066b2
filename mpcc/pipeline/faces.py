"""What `import mpcc` offers: optimize, pareto, estimate, compile, count, load."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from torch import fx

from mpcc import registry
from mpcc.approximate import Plan
from mpcc.calibration.basis import Basis
from mpcc.calibration.guard import NOTE, Guard
from mpcc.calibration.range_check import RangeViolation, range_report
from mpcc.compensate import Report
from mpcc.cost import LAN, Budget, Estimate, Network, OpCounts, estimate_graph
from mpcc.errors import BudgetError, OutsideRange, UsageError
from mpcc.ir.answers import NOTE as ANSWERS
from mpcc.program import Program
from mpcc.rewrite import Observer, Step
from mpcc.runtime.engine.fidelity import compare
from mpcc.runtime.executable import Executable, StockExecutable
from mpcc.search import Scores, metric_of, recipe_plan
from mpcc.search.answer import searched
from mpcc.search.pareto import POINTS, Front, front
from mpcc.search.pricing import made, reached, stock_estimate
from mpcc.search.program_cost import program_estimate
from mpcc.search.search import Search
from mpcc.search.target import PROTOCOL, Fields, Objective, Target, TargetFields, asked, target_of
from mpcc.search.task import Chosen

from . import compensation
from .compensation import Repaired, repaired
from .steps import (
    Progress,
    accurate,
    capture,
    check_machine,
    held,
    mpc_graph,
    prepared_for,
    schedule,
    task_of,
    transform,
)

if TYPE_CHECKING:
    from mpcc.show.notebook import Picture

    from .steps import Model


@dataclass(frozen=True)
class Optimized:
    """What `optimize` made. `errors` compares the fixed-point emulation with the float model on the calibration inputs."""

    module: fx.GraphModule
    plan: Plan
    estimate: Estimate
    baseline: Estimate
    program: Program
    model: fx.GraphModule
    errors: Mapping[str, float]
    basis: Basis
    chosen: Chosen | None = None
    prefix: fx.GraphModule | None = None  # what the client computes alone; `program` and `model` begin behind it
    public: tuple[str, ...] = ()  # the names of the parameters that everybody may know
    ranges: tuple[RangeViolation, ...] = ()  # what each site sees of these inputs, against where its choice holds
    compensation: Report | None = None  # None where there was nothing to compensate, or it was not asked for

    @property
    def calibrated(self) -> bool:
        """Whether figures rest on inputs of the user's, and not only on ones that were made from the model."""
        return self.basis.calibrated

    @property
    def answers(self) -> tuple[str, ...]:
        """The functions that the client computes of the opened outputs."""
        found = self.executable().answers
        return () if found is None else found.names

    def __repr__(self) -> str:
        from mpcc.show.notebook import text

        return f"<Optimized: {text(self.plan, self.baseline, self.estimate)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: a row for each kind of operator, before and after."""
        from mpcc.show.notebook import table

        return table(self.plan, self.baseline, self.estimate)

    def plot(self) -> Picture:
        """Bytes and rounds of each kind of operator, before and after: a notebook shows it, `.save("x.svg")` writes it."""
        from mpcc.show.notebook import picture

        return picture(self.plan, self.baseline, self.estimate)

    def executable(self) -> Executable:
        """What two parties run."""
        return Executable(self.program, self.plan, self.module, prefix=self.prefix)

    def save(self, folder: str | Path) -> Path:
        """Write a bundle: plan.json, model.onnx, program.json, weights.safetensors, report.html."""
        from mpcc.show.report import Comparison

        repair = "" if self.compensation is None else str(self.compensation)
        comparison = Comparison(self.baseline, self.estimate, self.errors, self.basis, self.ranges, repair)
        return self.executable().save(folder, comparison)


def optimize(
    model: Model,
    example_inputs: Sequence[Any] | None = None,
    *,
    target: Target | None = None,
    objective: Objective | None = None,
    calibration: Any = None,
    input_range: tuple[float, float] | None = None,
    plan: Plan | None = None,
    recipe: str | None = None,
    scores: Scores | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    public: Sequence[str] = (),
    hide_logits: bool = False,
    compensate: bool | None = None,
    reconstruct: int | None = None,
    progress: Progress | None = None,
    observe: Observer | None = None,
    **given: Unpack[Fields],
) -> Optimized:
    """The rewritten model that meets the objective at the least quality loss, its plan, its cost and its executable.

    Fields of `target` and `objective` may be given as keywords of their own: `budget="2s", network="wan"`. BudgetError when
    no plan of the level meets the budget. `max_drop` without a budget gives the fastest plan within that accuracy drop; with
    one it must hold as well. `calibration`: a tensor, an iterable of tensors, a .npy or .npz file, an image folder.
    `observe` sees the graph after every step (`mpcc.show.dump.Dump` writes them to a folder).
    `public`: patterns of parameters that everybody may know ("backbone.*", "blocks.0-9.*", "frozen"): what depends on the input
    and on them alone is computed by the client before anything is private (`mpcc.rewrite.visibility`).
    A last softmax, sigmoid, argmax or top-k is computed by the client on its opened logits, for nothing, unless `hide_logits`:
    then the client learns no more than the model's outputs. A given plan says itself which of the two it was made for.
    `plan` is taken as it is; `recipe` makes one ("mpcvit:0.5", see `mpcc recipes`), whose `scores` may be given.
    `compensate`: whether layers behind structural choices get new weights (`mpcc.compensate`), by default those of plans that are
    made here, and of a `plan` that was made so. `reconstruct`: steps of gradient in each block after that, on the same inputs.
    """
    if plan is not None and recipe is not None:
        raise UsageError("a plan and a recipe exclude each other")
    compensation.check_asked(compensate, reconstruct)
    compensate = True if reconstruct else compensate
    target, objective = asked(target, objective, given)
    wanted, max_drop = None if objective.budget is None else Budget.parse(objective.budget), objective.max_drop
    prepared, target = prepared_for(
        target, model, example_inputs, calibration=calibration, input_range=input_range, input_shapes=input_shapes,
        public=public, hide_logits=hide_logits or (plan is not None and ANSWERS not in plan.notes), progress=progress,
        observe=observe,
    )  # fmt: skip
    task = task_of(prepared, target, objective, progress)
    baseline = stock_estimate(prepared.whole, task.protocol, task.network)
    chosen = None
    if recipe is not None:
        graph, inputs, synthetic = prepared.graph, prepared.inputs, not prepared.calibrated
        plan = recipe_plan(recipe, graph, inputs, registry.approximations(), scores=scores, synthetic=synthetic)
    if plan is not None:
        best = made(task, held(prepared, plan))
        if wanted is not None and not wanted.met_by(best.estimate):
            raise BudgetError(f"the plan does not meet the budget of {wanted}", hint=f"It takes {reached(best.estimate)}.")
    elif wanted is None and max_drop is None:
        best = accurate(prepared, task)
    else:
        chosen = searched(task, wanted, max_drop)
        best = made(task, chosen.point.plan)
    fixed = Repaired(prepared, best)
    if compensation.wanted(best.plan, compensate, given=plan is not None and recipe is None):
        task.progress("compensate", 0, 1)
        fixed = repaired(
            prepared, best, task.metric, wanted, lambda one, plan: made(task_of(one, target, objective, progress), plan),
            asked=compensate is True or compensation.was_compensated(best.plan),
            steps=compensation.steps_of(best.plan) if reconstruct is None else reconstruct, progress=progress,
        )
        task.progress("compensate", 1, 1)
    prepared, best = fixed.prepared, fixed.priced
    if observe is not None:  # the search made many graphs; this is the chosen one, step by step
        mpc_graph(prepared.graph, best.plan, observe)
        observe(Step("online", "lower", best.program.online.graph))
        observe(Step("dealer", "lower", best.program.dealer.graph))
    task.progress("emulate", 0, 1)
    errors = compare(prepared.source, best.program, prepared.inputs)
    ranges = tuple(range_report(prepared.graph, best.plan, registry.approximations(), prepared.inputs))
    for one in (found for found in ranges if found.values > 0):
        warnings.warn(str(one), OutsideRange, stacklevel=2)
    task.progress("emulate", 1, 1)
    made_by = "plan" if plan is not None else "default" if chosen is None else "search"
    notes = {**task.notes, "seconds": float(best.estimate.seconds), "calibration": prepared.basis.document(), "made_by": made_by}
    notes |= {"public": list(prepared.public)} if prepared.public else {}
    notes |= {} if prepared.answers is None else {ANSWERS: prepared.answers.document()}
    notes |= {} if recipe is None else {"made_by": "recipe", "recipe": recipe}
    notes |= {} if fixed.report is None else {compensation.NOTE: fixed.report.note}
    return Optimized(
        prepared.graph, replace(best.plan, notes=notes), best.estimate, baseline, best.program, prepared.source, errors,
        prepared.basis, chosen, prepared.prefix, prepared.public, ranges, fixed.report,
    )  # fmt: skip


def pareto(
    model: Model,
    example_inputs: Sequence[Any] | None = None,
    *,
    points: int = POINTS,
    target: Target | None = None,
    objective: Objective | None = None,
    calibration: Any = None,
    input_range: tuple[float, float] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
    **given: Unpack[Fields],
) -> Front:
    """The plans from the fastest to the most exact that no other plan tried beats in both, each with its exact price.

    Target and objective as in `optimize`, but for its bounds: the front shows what each bound costs. Published recipes are
    among the plans tried (`mpcc.search.pareto`).
    """
    target, objective = asked(target, objective, given)
    if objective.budget is not None or objective.max_drop is not None:
        raise UsageError("a front has no bounds", hint="Leave `budget` and `max_drop` out, or call `optimize`.")
    prepared, target = prepared_for(
        target, model, example_inputs, calibration=calibration, input_range=input_range, input_shapes=input_shapes,
        progress=progress,
    )  # fmt: skip
    task = task_of(prepared, target, objective, progress)
    return front(Search.of(task), stock_estimate(prepared.source, task.protocol, task.network), points)


def estimate(
    model_or_graph: Model,
    example_inputs: Sequence[Any] | None = None,
    *,
    target: Target | None = None,
    plan: Plan | None = None,
    calibration: Any = None,
    input_range: tuple[float, float] | None = None,
    **given: Unpack[TargetFields],
) -> Estimate:
    """What one inference will cost: read off the scheduled program for mpcc's engine, off price tables for other protocols."""
    target = target_of(target, given)
    protocol, link = registry.protocol(target.protocol), Network.parse(target.network)
    check_machine(target)
    if not protocol.scheduled:
        graph = capture(model_or_graph, example_inputs)
        return estimate_graph(graph if plan is None else mpc_graph(graph, plan), protocol, link)
    prepared, target = prepared_for(
        target, model_or_graph, example_inputs, calibration=calibration, input_range=input_range
    )
    task = task_of(prepared, target.unchecked)
    return accurate(prepared, task).estimate if plan is None else made(task, held(prepared, plan)).estimate


def compile(  # noqa: A001  (the public name)
    model_or_graph: Model,
    example_inputs: Sequence[Any] | None = None,
    *,
    target: Target | None = None,
    plan: Plan | None = None,
    engine: str = "mpcc",
    calibration: Any = None,
    input_range: tuple[float, float] | None = None,
    hide_logits: bool = False,
    **given: Unpack[TargetFields],
) -> Executable | StockExecutable:
    """An executable of a model: mpcc's engine, or CrypTen's own functions ("stock", the baseline).

    The program is that of `optimize` without a budget for the same target: spline gates stand where they are faster on its
    network and machine. `plan` is taken as it is but for grids that the inputs leave (`Refitted` warnings say which).
    """
    target = target_of(target, given)
    if engine == "stock":
        return StockExecutable(capture(model_or_graph, example_inputs))
    if engine != "mpcc":
        raise UsageError(f"unknown engine {engine!r}", hint='One of: "mpcc", "stock".')
    prepared, target = prepared_for(
        target, model_or_graph, example_inputs, calibration=calibration, input_range=input_range,
        hide_logits=hide_logits or (plan is not None and ANSWERS not in plan.notes),
    )  # fmt: skip
    if plan is None:
        task = task_of(prepared, target)
        best = accurate(prepared, task)
        program, plan = best.program, replace(best.plan, notes={**best.plan.notes, **task.notes})
    else:
        if compensation.was_compensated(plan):
            found = compensation.found_for(prepared, plan, metric_of(prepared.graph), compensation.steps_of(plan))
            if not found.report.taken:
                warnings.warn(f"the plan was made for compensated weights. {found.report}", stacklevel=2)
            prepared, plan = replace(prepared, graph=found.graph), found.plan
        plan = held(prepared, plan)
        program = schedule(prepared, plan, target.settings)
        guard = {NOTE: Guard.of(prepared.graph, prepared.inputs, prepared.basis.given).document()}
        notes = {**plan.notes, **guard} if prepared.calibrated else {**guard, **plan.notes}  # the better founded one
        plan = replace(plan, notes=notes)
    answers = {} if prepared.answers is None else {ANSWERS: prepared.answers.document()}
    return Executable(program, replace(plan, notes={**plan.notes, **answers}), prepared.graph)


def load(folder: str | Path) -> Executable:
    """The executable of a bundle."""
    return Executable.load(folder)


def count(
    model_or_executable: Any, example_inputs: Sequence[Any] | None = None, *, target: Target | None = None,
    **given: Unpack[TargetFields],
) -> OpCounts:  # fmt: skip
    """Calls of each primitive, rounds and bytes, in total and by site, of an executable, or of a model as `compile` makes it."""
    executable = model_or_executable
    if not isinstance(executable, Executable):
        made = compile(model_or_executable, example_inputs, target=target, **given)
        assert isinstance(made, Executable)
        executable = made
    protocol = registry.protocol(PROTOCOL)
    found = program_estimate(executable.program, protocol, LAN, protocol.compute)  # no count depends on either
    return OpCounts.of(found, executable.program.failure_probability, protocol.aliases)


__all__ = (
    "Front", "Optimized", "capture", "compile", "count", "estimate", "load", "optimize", "pareto", "transform",
)  # fmt: skip
