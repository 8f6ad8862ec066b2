"""The order of things: capture -> nn passes -> calibration and choice -> expand -> mpc passes -> schedule -> executable.

This is the only file that knows it. The faces below are what `import mpcc` offers.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from torch import fx, nn

from mpcc import registry

from .approximate import Level, Plan, SiteStatistics
from .approximate.expand import expand
from .approximate.inline import apply_structural
from .calibration import calibrate, load_calibration, synthetic_inputs
from .calibration.guard import NOTE, Guard
from .calibration.range_check import RangeViolation, range_report
from .calibration.ranges import record_ranges, values_a_call
from .cost import LAN, Budget, Compute, Estimate, Network, OpCounts, estimate_graph
from .cost.machine import REFERENCE, Machine
from .errors import BudgetError, OutsideRange, UsageError
from .ir import nn as nn_level
from .lowering import Settings, lower
from .program import Program
from .rewrite import Observer, Pass, Step, after_each, settle
from .runtime.engine.fidelity import check, compare
from .runtime.executable import Executable, StockExecutable
from .search import Scores, default_plan, layouts, load_metric, metric_of, recipe_plan
from .search.answer import searched
from .search.pareto import POINTS, Front, front
from .search.pricing import fastest, made, reached, stock_estimate
from .search.program_cost import program_estimate
from .search.search import Search
from .search.target import PROTOCOL, Fields, Objective, Target, TargetFields, asked, target_of
from .search.task import Chosen, LastProgram, Task, large, subset_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from .frontend import Limits

    Model = nn.Module | fx.GraphModule | ExportedProgram | str | Path

Progress = Callable[[str, int, int], None]


def capture(
    model: Model,
    example_inputs: Sequence[Any] | None = None,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    limits: Limits | None = None,
) -> fx.GraphModule:
    """The nn-level graph of a PyTorch module, a torch.fx graph, an exported program, or a .onnx or .pt2 file.

    `limits` say how large a file's model may be (mpcc.frontend.Limits).
    """
    from .frontend import Limits
    from .frontend import capture as front_end

    return front_end(model, example_inputs, input_shapes=input_shapes, limits=limits or Limits())


def transform(
    graph: Model,
    example_inputs: Sequence[Any] | None = None,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    passes: Sequence[str | Pass] | None = None,
    plan: Plan | None = None,
    observe: Observer | None = None,
) -> fx.GraphModule:
    """The exact nn-level rewrites alone: nn level in (anything that `capture` takes), nn level out, trainable.

    `passes` names the passes to run, one after another; by default all exact ones run until none changes the graph.
    With a `plan`, its structural choices are written into the graph as well.
    """
    result = capture(graph, example_inputs, input_shapes=input_shapes)
    if observe is not None:
        observe(Step("nn", "capture", result.graph))
    chosen = [(p if isinstance(p, Pass) else registry.pass_(p),) for p in passes or ()]
    for group in [registry.pass_order("nn")] if passes is None else chosen:
        result = settle(result, group, after_each("nn", observe))
    if plan is not None:
        result = apply_structural(result, plan, registry.approximations())
        nn_level.verify(result)
    return result


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
    calibrated: bool
    chosen: Chosen | None = None
    ranges: tuple[RangeViolation, ...] = ()  # what each site sees of these inputs, against where its choice holds

    def executable(self) -> Executable:
        """What two parties run."""
        return Executable(self.program, self.plan, self.module)

    def save(self, folder: str | Path) -> Path:
        """Write a bundle: plan.json, model.onnx, program.json, weights.safetensors, report.html."""
        from .show.report import Comparison

        comparison = Comparison(self.baseline, self.estimate, self.errors, self.calibrated, self.ranges)
        return self.executable().save(folder, comparison)


@dataclass(frozen=True)
class Prepared:
    """A model ready for choices: the rewritten nn-level graph, and what calibration saw."""

    source: fx.GraphModule
    graph: fx.GraphModule
    inputs: Any
    statistics: Mapping[str, SiteStatistics]
    calibrated: bool


def prepare(
    model: Model,
    example_inputs: Sequence[Any] | None = None,
    *,
    calibration: Any = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
    observe: Observer | None = None,
) -> Prepared:
    """Capture, rewrite and calibrate."""
    tell = progress or (lambda stage, done, total: None)
    tell("capture", 0, 1)
    source = capture(model, example_inputs, input_shapes=input_shapes)
    tell("capture", 1, 1)
    tell("rewrite", 0, 1)
    graph = transform(copy.deepcopy(source), observe=observe)
    tell("rewrite", 1, 1)
    shapes = [tuple(n.meta["val"].shape) for n in graph.graph.nodes if n.op == "placeholder"]
    given = calibration is not None
    names = [str(n.target) for n in graph.graph.nodes if n.op == "placeholder"]
    inputs = load_calibration(calibration, shapes, names=names) if given else synthetic_inputs(shapes, values_a_call(graph))
    tell("calibrate", 0, 1)
    statistics = calibrate(graph, inputs, synthetic=not given)
    tell("calibrate", 1, 1)
    return Prepared(source, graph, inputs, statistics, given)


def schedule(prepared: Prepared, plan: Plan, settings: Settings | None = None, draft: Program | None = None) -> Program:
    """Expand a plan, run the mpc-level passes, and write the online program. PrecisionError where it is too coarse.

    `draft`: the program, where it was made before and only has to be checked.
    """
    chosen, graph = settings or Settings(), mpc_graph(prepared.graph, plan)
    if draft is None:
        record_ranges(graph, prepared.inputs)
    program = draft or lower(graph, chosen)
    check(program, graph, prepared.inputs, chosen.tolerance)
    return program


def mpc_graph(graph: fx.GraphModule, plan: Plan, observe: Observer | None = None) -> fx.GraphModule:
    """The mpc-level graph of an nn-level one under a plan, rewritten: what programs are made of."""
    expanded = expand(graph, plan, registry.approximations())
    if observe is not None:
        observe(Step("mpc", "expand", expanded.graph))
    return _rewritten(expanded, observe)


def _rewritten(graph: fx.GraphModule, observe: Observer | None = None) -> fx.GraphModule:
    return settle(graph, registry.pass_order("mpc"), after_each("mpc", observe))


def optimize(
    model: Model,
    example_inputs: Sequence[Any] | None = None,
    *,
    target: Target | None = None,
    objective: Objective | None = None,
    calibration: Any = None,
    plan: Plan | None = None,
    recipe: str | None = None,
    scores: Scores | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
    observe: Observer | None = None,
    **given: Unpack[Fields],
) -> Optimized:
    """The rewritten model that meets the objective at the least quality loss, its plan, its cost and its executable.

    Fields of `target` and `objective` may be given as keywords of their own: `budget="2s", network="wan"`. BudgetError when
    no plan of the level meets the budget. `max_drop` without a budget gives the fastest plan within that accuracy drop; with
    one it must hold as well. `calibration`: a tensor, an iterable of tensors, a .npy or .npz file, an image folder.
    `observe` sees the graph after every step (`mpcc.show.dump.Dump` writes them to a folder).
    `plan` is taken as it is; `recipe` makes one ("mpcvit:0.5", see `mpcc recipes`), whose `scores` may be given.
    """
    if plan is not None and recipe is not None:
        raise UsageError("a plan and a recipe exclude each other")
    target, objective = asked(target, objective, given)
    compute_of(target)  # a machine that does not exist is refused before capture and calibration, which take long
    wanted, max_drop = None if objective.budget is None else Budget.parse(objective.budget), objective.max_drop
    how: Any = dict(calibration=calibration, input_shapes=input_shapes, progress=progress, observe=observe)
    prepared = prepare(model, example_inputs, **how)
    task = task_of(prepared, target, objective, progress)
    baseline = stock_estimate(prepared.source, task.protocol, task.network)
    chosen = None
    if recipe is not None:
        graph, inputs, synthetic = prepared.graph, prepared.inputs, not prepared.calibrated
        plan = recipe_plan(recipe, graph, inputs, registry.approximations(), scores=scores, synthetic=synthetic)
    if plan is not None:
        best = made(task, plan)
        if wanted is not None and not wanted.met_by(best.estimate):
            raise BudgetError(f"the plan does not meet the budget of {wanted}", hint=f"It takes {reached(best.estimate)}.")
    elif wanted is None and max_drop is None:
        best = fastest(layouts(first_plan(prepared, objective.level), registry.approximations()), task)
    else:
        chosen = searched(task, wanted, max_drop)
        best = made(task, chosen.point.plan)
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
    notes = {**task.notes, "made_by": "plan" if plan is not None else "default" if chosen is None else "search"}
    notes |= {} if recipe is None else {"made_by": "recipe", "recipe": recipe}
    return Optimized(
        prepared.graph, replace(best.plan, notes=notes), best.estimate, baseline, best.program, prepared.source, errors,
        prepared.calibrated, chosen, ranges,
    )  # fmt: skip


def pareto(
    model: Model,
    example_inputs: Sequence[Any] | None = None,
    *,
    points: int = POINTS,
    target: Target | None = None,
    objective: Objective | None = None,
    calibration: Any = None,
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
    compute_of(target)
    prepared = prepare(model, example_inputs, calibration=calibration, input_shapes=input_shapes, progress=progress)
    task = task_of(prepared, target, objective, progress)
    return front(Search.of(task), stock_estimate(prepared.source, task.protocol, task.network), points)


def compute_of(target: Target) -> Compute:
    """What local work takes on the target's machine. Only here and in the command line is it read."""
    protocol = registry.protocol(target.protocol)
    if protocol.scheduled:
        machine = Machine.asked(target.machine)
        return protocol.compute if machine is None else machine.compute
    if target.machine not in (None, REFERENCE):
        what = f"the price table of {protocol.name!r} holds for the machine on which it was measured"
        raise UsageError(what, where="machine", hint=f'Give "{REFERENCE}", or leave it out.')
    return protocol.compute


def task_of(
    prepared: Prepared, target: Target | None = None, objective: Objective | None = None, progress: Progress | None = None
) -> Task:
    """What there is to choose for, as the search takes it."""
    target, objective = target or Target(), objective or Objective()
    chosen, few = target.settings, subset_of(prepared.graph, prepared.inputs)
    program = draft = LastProgram(lambda plan: schedule(prepared, plan, chosen))
    if large(prepared.graph, prepared.inputs):
        some, rough = replace(prepared, inputs=few), replace(chosen, tolerance=math.inf)
        draft = LastProgram(lambda plan: schedule(some, plan, rough))
        if few is prepared.inputs:  # then what a draft lacks is the check
            program = LastProgram(lambda plan: schedule(prepared, plan, chosen, draft(plan)))
    return Task(
        graph=prepared.graph, statistics=prepared.statistics, inputs=prepared.inputs, calibrated=prepared.calibrated,
        level=objective.level, protocol=registry.protocol(target.protocol), network=Network.parse(target.network),
        compute=compute_of(target),
        metric=metric_of(prepared.graph) if objective.metric is None else load_metric(objective.metric),
        passes=_rewritten, program=program, subset=few, draft_program=draft,
        expanded=lambda plan: mpc_graph(prepared.graph, plan),
        settings=chosen, progress=progress or (lambda stage, done, total: None),
    )  # fmt: skip


def first_plan(prepared: Prepared, level: Level) -> Plan:
    """The accurate plan of a level, without a search."""
    return default_plan(prepared.graph, prepared.statistics, registry.approximations(), level)


def estimate(
    model_or_graph: Model,
    example_inputs: Sequence[Any] | None = None,
    *,
    target: Target | None = None,
    plan: Plan | None = None,
    calibration: Any = None,
    **given: Unpack[TargetFields],
) -> Estimate:
    """What one inference will cost: read off the scheduled program for mpcc's engine, off price tables for other protocols."""
    target = target_of(target, given)
    protocol, link, compute = registry.protocol(target.protocol), Network.parse(target.network), compute_of(target)
    if not protocol.scheduled:
        graph = capture(model_or_graph, example_inputs)
        return estimate_graph(graph if plan is None else mpc_graph(graph, plan), protocol, link)
    prepared = prepare(model_or_graph, example_inputs, calibration=calibration)
    program = schedule(prepared, plan or first_plan(prepared, "bounded"), target.unchecked.settings)
    return program_estimate(program, protocol, link, compute)


def compile(  # noqa: A001  (the public name)
    model_or_graph: Model,
    example_inputs: Sequence[Any] | None = None,
    *,
    target: Target | None = None,
    plan: Plan | None = None,
    engine: str = "mpcc",
    calibration: Any = None,
    **given: Unpack[TargetFields],
) -> Executable | StockExecutable:
    """An executable of a model: mpcc's engine, or CrypTen's own functions ("stock", the baseline).

    Of the target its `settings` decide; what prices a program does not change it.
    """
    target = target_of(target, given)
    if engine == "stock":
        return StockExecutable(capture(model_or_graph, example_inputs))
    if engine != "mpcc":
        raise UsageError(f"unknown engine {engine!r}", hint='One of: "mpcc", "stock".')
    prepared = prepare(model_or_graph, example_inputs, calibration=calibration)
    chosen = plan or first_plan(prepared, "bounded")
    notes = {NOTE: Guard.of(prepared.graph, prepared.inputs, synthetic=not prepared.calibrated).document()}
    notes = {**chosen.notes, **notes} if prepared.calibrated else {**notes, **chosen.notes}  # the better founded one
    return Executable(schedule(prepared, chosen, target.settings), replace(chosen, notes=notes), prepared.graph)


def load(folder: str | Path) -> Executable:
    """The executable of a bundle."""
    return Executable.load(folder)


def count(model_or_executable: Any, example_inputs: Sequence[Any] | None = None) -> OpCounts:
    """Calls of each primitive, rounds and bytes, in total and by site."""
    executable = model_or_executable
    if not isinstance(executable, Executable):
        made = compile(model_or_executable, example_inputs)
        assert isinstance(made, Executable)
        executable = made
    protocol = registry.protocol(PROTOCOL)
    found = program_estimate(executable.program, protocol, LAN, protocol.compute)  # no count depends on either
    return OpCounts.of(found, executable.program.failure_probability, protocol.aliases)


__all__ = (
    "Front", "Optimized", "capture", "compile", "count", "estimate", "load", "optimize", "pareto", "transform",
)  # fmt: skip
