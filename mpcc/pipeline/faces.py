"""What `import mpcc` offers: optimize, optimize_within, pareto, estimate, compile, count, load."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from mpcc import registry
from mpcc.approximate import Plan
from mpcc.calibration.guard import NOTE, Guard
from mpcc.cost import LAN, Budget, Estimate, Network, OpCounts, estimate_graph
from mpcc.errors import BudgetError, UsageError
from mpcc.ir.answers import NOTE as ANSWERS
from mpcc.rewrite import Observer
from mpcc.runtime.executable import Executable, StockExecutable
from mpcc.search import Scores, metric_of, recipe_plan
from mpcc.search.answer import searched
from mpcc.search.pareto import POINTS, Front, front
from mpcc.search.pricing import made, reached, stock_estimate
from mpcc.search.program_cost import program_estimate
from mpcc.search.questions import best_within_budgets
from mpcc.search.search import Search
from mpcc.search.target import PROTOCOL, Fields, Objective, Target, TargetFields, asked, target_of

from . import compensation
from .optimized import Asked, Optimized
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

    from .steps import Model


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
    start: Plan | None = None,
    labels: Any = None,
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
    `plan` is taken as it is; `recipe` makes one ("mpcvit:0.5", see `mpcc recipes`), whose `scores` may be given. `start` is a
    plan to begin from, as an earlier search made it: where it meets the bounds, what is found is at least as good. `labels`: the
    classes of the calibration inputs, as `mpcc.calibration.labels` reads them; `max_drop` is then a share of accuracy.
    `compensate`: whether layers behind structural choices get new weights (`mpcc.compensate`), by default those of plans that are
    made here, and of a `plan` that was made so. `reconstruct`: steps of gradient in each block after that, on the same inputs.
    """
    if plan is not None and recipe is not None:
        raise UsageError("a plan and a recipe exclude each other")
    asked_for = Asked.of(target, objective, given, compensate, reconstruct, recipe, progress, observe)
    wanted, max_drop = asked_for.budget, asked_for.objective.max_drop
    prepared, target = prepared_for(
        asked_for.target, model, example_inputs, calibration=calibration, input_range=input_range, input_shapes=input_shapes,
        public=public, hide_logits=hide_logits or (plan is not None and ANSWERS not in plan.notes), progress=progress,
        observe=observe,
    )  # fmt: skip
    one = asked_for.on(prepared, target, start, labels, calibration)
    if recipe is not None:
        graph, inputs, synthetic = prepared.graph, prepared.inputs, not prepared.calibrated
        plan = recipe_plan(recipe, graph, inputs, registry.approximations(), scores=scores, synthetic=synthetic)
    if plan is not None:
        best = made(one.task, held(prepared, plan))
        if wanted is not None and not wanted.met_by(best.estimate):
            raise BudgetError(f"the plan does not meet the budget of {wanted}", hint=f"It takes {reached(best.estimate)}.")
        return one.finished(best, None, wanted, given=recipe is None)
    if wanted is None and max_drop is None:
        return one.finished(accurate(prepared, one.task), None, None)
    chosen = searched(one.task, wanted, max_drop)
    return one.finished(made(one.task, chosen.point.plan), chosen, wanted)


def optimize_within(
    model: Model,
    example_inputs: Sequence[Any] | None = None,
    *,
    budgets: Sequence[str | Budget],
    target: Target | None = None,
    objective: Objective | None = None,
    calibration: Any = None,
    input_range: tuple[float, float] | None = None,
    start: Plan | None = None,
    labels: Any = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    public: Sequence[str] = (),
    hide_logits: bool = False,
    compensate: bool | None = None,
    reconstruct: int | None = None,
    progress: Progress | None = None,
    **given: Unpack[Fields],
) -> list[Optimized | None]:
    """What `optimize` makes for each of several budgets, None where no plan of the level meets it.

    The model is measured once, and every plan that is tried counts for all budgets: a tighter one never gets a better answer than
    a looser one. Everything else as in `optimize`, but that neither the objective nor `given` may have bounds.
    """
    asked_for = Asked.of(target, objective, given, compensate, reconstruct, None, progress, None)
    if asked_for.budget is not None or asked_for.objective.max_drop is not None:
        raise UsageError("several budgets exclude `budget` and `max_drop`", hint="Give `budgets` alone, or call `optimize`.")
    if not budgets:
        raise UsageError("there is no budget", hint='Give some, such as budgets=["3s", "2s"].')
    wanted = [Budget.parse(budget) for budget in budgets]
    prepared, target = prepared_for(
        asked_for.target, model, example_inputs, calibration=calibration, input_range=input_range, input_shapes=input_shapes,
        public=public, hide_logits=hide_logits, progress=progress,
    )  # fmt: skip
    one = asked_for.on(prepared, target, start, labels, calibration)
    finished = dict[str, Optimized]()
    found = best_within_budgets(Search.of(one.task), wanted)
    for chosen, budget in zip(found, wanted, strict=True):
        if chosen is not None and chosen.point.plan.key not in finished:
            finished[chosen.point.plan.key] = one.finished(made(one.task, chosen.point.plan), chosen, budget)
    return [None if chosen is None else finished[chosen.point.plan.key] for chosen in found]


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
    among the plans tried (`mpcc.search.pareto`). Losses are those after compensation, which `optimize` repeats for these plans.
    """
    target, objective = asked(target, objective, given)
    if objective.budget is not None or objective.max_drop is not None:
        raise UsageError("a front has no bounds", hint="Leave `budget` and `max_drop` out, or call `optimize`.")
    prepared, target = prepared_for(
        target, model, example_inputs, calibration=calibration, input_range=input_range, input_shapes=input_shapes,
        progress=progress,
    )  # fmt: skip
    task = replace(task_of(prepared, target, objective, progress), compensate=compensation.possible(prepared))
    found = front(Search.of(task), stock_estimate(prepared.source, task.protocol, task.network), points)
    return replace(found, points=tuple(map(compensation.to_be_compensated, found.points))) if task.mends else found


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
    public: Sequence[str] = (),
    hide_logits: bool = False,
    **given: Unpack[TargetFields],
) -> Executable | StockExecutable:
    """An executable of a model: mpcc's engine, or CrypTen's own functions ("stock", the baseline). `public`: as in `optimize`.

    The program is that of `optimize` without a budget for the same target: spline gates stand where they are faster on its
    network and machine. `plan` is taken as it is but for grids that the inputs leave (`Refitted` warnings say which).
    """
    target = target_of(target, given)
    if engine == "stock":
        return StockExecutable(capture(model_or_graph, example_inputs))
    if engine != "mpcc":
        raise UsageError(f"unknown engine {engine!r}", hint='One of: "mpcc", "stock".')
    prepared, target = prepared_for(
        target, model_or_graph, example_inputs, calibration=calibration, input_range=input_range, public=public,
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
    said = {} if prepared.answers is None else {ANSWERS: prepared.answers.document()}
    said |= {"public": list(prepared.public)} if prepared.public else {}
    return Executable(program, replace(plan, notes={**plan.notes, **said}), prepared.graph, prefix=prepared.prefix)


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
    "Front", "Optimized", "capture", "compile", "count", "estimate", "load", "optimize", "optimize_within", "pareto", "transform",
)  # fmt: skip
