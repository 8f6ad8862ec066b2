"""The order of the steps, which nobody else knows: capture -> nn passes -> calibrate -> expand -> mpc passes -> lower."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import fx, nn

from mpcc import registry
from mpcc.approximate import Level, Plan, SiteStatistics
from mpcc.approximate.expand import expand
from mpcc.approximate.inline import apply_structural
from mpcc.calibration import calibrate, calls, load_calibration
from mpcc.calibration.basis import ENOUGH, Basis
from mpcc.calibration.calibrate import stretch_of
from mpcc.calibration.ranges import record_ranges, values_a_call
from mpcc.calibration.synthetic import CONFIGURED, configured_range, range_of, synthesise
from mpcc.cost import Compute, Network, Protocol
from mpcc.cost.machine import REFERENCE
from mpcc.errors import PrecisionError, Refitted, UnsupportedOperator, UsageError
from mpcc.ir import nn as nn_level
from mpcc.ir.answers import Answers
from mpcc.lowering import Settings, lower
from mpcc.lowering.circuits import Made, circuit_of
from mpcc.lowering.fixed_scale import scaled
from mpcc.lowering.settings import FINER
from mpcc.program import Program
from mpcc.rewrite import Observer, Pass, Step, after_each, settle, visibility
from mpcc.rewrite.answers import cut_answers
from mpcc.runtime import this_machine
from mpcc.runtime.engine.fidelity import check
from mpcc.runtime.local_part import LocalPart
from mpcc.search import default_plan, load_metric, metric_of
from mpcc.search.evidence import fitted_to
from mpcc.search.gates import quickest
from mpcc.search.pricing import Priced
from mpcc.search.target import Objective, Target, kept_sites
from mpcc.search.task import LastProgram, Task, large, subset_of
from mpcc.search.within_grids import within_grids

from .checkpoints import accept_checkpoints

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from mpcc.frontend import Limits
    from mpcc.frontend.fixed import Fixed

    Model = nn.Module | fx.GraphModule | ExportedProgram | str | Path

Progress = Callable[[str, int, int], None]
Result = TypeVar("Result")
MOST_BARRED = 8
"""Approximations that give way before a model is refused: each costs a program, and more than a few mean that no choice helps."""


def capture(
    model: Model,
    example_inputs: Sequence[Any] | None = None,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    fixed: Fixed | None = None,
    limits: Limits | None = None,
) -> fx.GraphModule:
    """The nn-level graph of a PyTorch module, a torch.fx graph, an exported program, or a .onnx or .pt2 file.

    `fixed`: values of inputs by name, a tensor or a number for all elements, that are constants of this graph: they may decide
    what the model does. `limits` say how large a file's model may be (mpcc.frontend.Limits).
    """
    from mpcc.frontend import Limits
    from mpcc.frontend import capture as front_end

    captured = front_end(model, example_inputs, input_shapes=input_shapes, fixed=fixed, limits=limits or Limits())
    captured.meta[CONFIGURED] = configured_range(model)
    captured.meta.setdefault(visibility.FROZEN, visibility.frozen_parameters(model))
    return captured


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
    With a `plan`, its structural choices are written into the graph as well. The graph of a module loads the module's checkpoints
    (`load_state_dict`), although its own parameters are others.
    """
    result = _transformed(capture(graph, example_inputs, input_shapes=input_shapes), passes, plan, observe)
    if isinstance(graph, nn.Module):
        inputs = None if example_inputs is None else tuple(example_inputs)

        def again(model: nn.Module) -> fx.GraphModule:
            return _transformed(capture(model, inputs, input_shapes=input_shapes), passes, plan)

        accept_checkpoints(result, graph, again)
    return result


def _transformed(
    result: fx.GraphModule, passes: Sequence[str | Pass] | None = None, plan: Plan | None = None, observe: Observer | None = None
) -> fx.GraphModule:
    """A captured graph, rewritten."""
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
class Prepared:
    """A model ready for choices: the rewritten nn-level graph, and what calibration saw.

    `source` is what the parties compute, before passes; `whole` the model, which differs from it by the `prefix`, the public
    part that the client computes alone. `public`: the names of the public parameters. `answers`: what the client computes of
    the outputs, which none of these graphs has.
    """

    source: fx.GraphModule
    graph: fx.GraphModule
    inputs: Any
    statistics: Mapping[str, SiteStatistics]
    basis: Basis
    whole: fx.GraphModule
    prefix: fx.GraphModule | None = None
    public: tuple[str, ...] = ()
    answers: Answers | None = None
    reach: tuple[float, float] | None = None
    """What the user says of the values of the graph's inputs."""

    @property
    def calibrated(self) -> bool:
        """Whether the user gave inputs."""
        return self.basis.calibrated


def prepare(
    model: Model,
    example_inputs: Sequence[Any] | None = None,
    *,
    calibration: Any = None,
    input_range: tuple[float, float] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    public: Sequence[str] = (),
    hide_logits: bool = True,
    progress: Progress | None = None,
    observe: Observer | None = None,
) -> Prepared:
    """Capture, rewrite and calibrate.

    Without `calibration`, and beside fewer than `mpcc.calibration.basis.ENOUGH` inputs, inputs are made from the model;
    `input_range` is what the user says of the values of pictures and features. `public`: patterns of parameters that everybody
    may know (`mpcc.rewrite.visibility`). Unless `hide_logits`, the client computes last softmaxes and the like by itself
    (`mpcc.rewrite.answers`).
    """
    tell = progress or (lambda stage, done, total: None)
    tell("capture", 0, 1)
    whole, answers = capture(model, example_inputs, input_shapes=input_shapes), None
    if not hide_logits:
        meta = whole.meta
        whole, answers = cut_answers(whole)
        whole.meta.update(meta)
    source, prefix, names = _divided(whole, public)
    tell("capture", 1, 1)
    tell("rewrite", 0, 1)
    graph = _transformed(capture(copy.deepcopy(source)), observe=observe)
    tell("rewrite", 1, 1)
    through = None if prefix is None else LocalPart(prefix)
    reach = input_range if prefix is None else None  # behind a prefix the graph's inputs are no longer the user's
    given: list[Any] = []
    if calibration is not None:
        inputs = _loaded(whole, calibration)
        given = calls(whole, inputs)
        if through is not None:
            inputs = given = [through(*call) for call in given]
        if len(given) >= ENOUGH:
            tell("calibrate", 0, 1)
            statistics = calibrate(graph, inputs)
            tell("calibrate", 1, 1)
            return Prepared(source, graph, inputs, statistics, Basis(len(given)), whole, prefix, names, answers, reach)
    tell("synthesise", 0, 1)
    seen = None if not given or input_range or through is not None else range_of(given)
    made = synthesise(
        whole, values_a_call(graph), input_range=input_range or seen, configured=whole.meta[CONFIGURED],
        progress=lambda done, total: tell("synthesise", done, total),
    )  # fmt: skip
    tell("synthesise", 1, 1)
    tell("calibrate", 0, 1)
    made = replace(made, through=through)
    inputs, statistics, basis = fitted_to(graph, made, given, registry.approximations())
    tell("calibrate", 1, 1)
    return Prepared(source, graph, inputs, statistics, basis, whole, prefix, names, answers, reach)


def _divided(whole: fx.GraphModule, public: Sequence[str]) -> tuple[fx.GraphModule, fx.GraphModule | None, tuple[str, ...]]:
    """(what the parties compute, what the client computes alone, the public parameters) of a model."""
    if not public:
        return whole, None, ()
    visibility.mark_public(whole, public, whole.meta.get(visibility.FROZEN, ()))
    cut = visibility.cut_prefix(whole)
    return cut.rest, cut.prefix, cut.names


def _loaded(graph: fx.GraphModule, calibration: Any) -> Any:
    placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
    shapes, names = [tuple(n.meta["val"].shape) for n in placeholders], [str(n.target) for n in placeholders]
    return load_calibration(calibration, shapes, names=names)


def schedule(prepared: Prepared, plan: Plan, settings: Settings | None = None) -> Program:
    """Expand a plan, run the mpc-level passes, and write the online program.

    Where it is too coarse, values keep more bits, which may cost rounds; PrecisionError where that does not help.
    """
    chosen, graph = settings or Settings(), _with_ranges(prepared, plan)
    program = lower(graph, chosen)
    for least in (bits for bits in FINER if bits > chosen.least_bits):
        try:
            check(program, graph, prepared.inputs, chosen.tolerance)
            return program
        except PrecisionError:
            finer = lower(graph, replace(chosen, least_bits=least))
            if str(finer.online.graph) == str(program.online.graph):  # no value was near its limit: bits are not what lacks
                raise
            program = finer
    check(program, graph, prepared.inputs, chosen.tolerance)
    return program


def held(prepared: Prepared, plan: Plan, *, tell: bool = True) -> Plan:
    """A plan with grids that hold what these inputs show behind its choices. Refitted warnings `tell` what was changed."""
    plan, changes = within_grids(
        prepared.graph, plan, prepared.inputs, registry.approximations(), synthetic=prepared.basis.synthetic > 0
    )
    for change in changes if tell else ():
        warnings.warn(str(change), Refitted, stacklevel=3)
    return plan


def _checked(prepared: Prepared, plan: Plan, program: Program, settings: Settings) -> Program:
    """A program that was made of a plan, if it is precise enough, else a finer one."""
    try:
        check(program, mpc_graph(prepared.graph, plan), prepared.inputs, settings.tolerance)
        return program
    except PrecisionError:
        return schedule(prepared, plan, settings)


def mpc_graph(graph: fx.GraphModule, plan: Plan, observe: Observer | None = None) -> fx.GraphModule:
    """The mpc-level graph of an nn-level one under a plan, rewritten: what programs are made of."""
    expanded = expand(graph, plan, registry.approximations())
    if observe is not None:
        observe(Step("mpc", "expand", expanded.graph))
    return _rewritten(expanded, observe)


def as_run(prepared: Prepared, plan: Plan, protocol: Protocol) -> fx.GraphModule:
    """The mpc-level graph that prices are read off: with a scale for each value where the protocol's engine has one for all."""
    return scaled(_with_ranges(prepared, plan)).graph if protocol.circuits else mpc_graph(prepared.graph, plan)


def circuit_for(prepared: Prepared, plan: Plan, protocol: Protocol) -> Made | None:
    """What the protocol's own engine runs; None where that is mpcc's, which runs programs."""
    return circuit_of(_with_ranges(prepared, plan), protocol.name) if protocol.circuits else None


def _with_ranges(prepared: Prepared, plan: Plan) -> fx.GraphModule:
    """The mpc-level graph, with the range that its values have on these inputs."""
    graph = mpc_graph(prepared.graph, plan)
    record_ranges(graph, prepared.inputs, stretch_of(prepared.basis.synthetic > 0))
    return graph


def _rewritten(graph: fx.GraphModule, observe: Observer | None = None) -> fx.GraphModule:
    return settle(graph, registry.pass_order("mpc"), after_each("mpc", observe))


def check_machine(target: Target) -> None:
    """UsageError where the target's machine does not exist, or cannot be chosen: before capture, which takes long."""
    protocol = registry.protocol(target.protocol)
    if protocol.scheduled:
        this_machine.check(target.machine)
    elif target.machine not in (None, REFERENCE):
        what = f"the price table of {protocol.name!r} holds for the machine on which it was measured"
        raise UsageError(what, where="machine", hint=f'Give "{REFERENCE}", or leave it out.')


def compute_of(target: Target) -> Compute:
    """What local work takes on the target's machine, measured where need be. Only here and in the command line is it read."""
    check_machine(target)
    protocol = registry.protocol(target.protocol)
    if not protocol.scheduled:
        return protocol.compute
    with this_machine.speed_of(target.machine) as speed:
        machine = speed()
    return protocol.compute if machine is None else machine.compute


def prepared_for(target: Target, *model: Any, **how: Any) -> tuple[Prepared, Target]:
    """`prepare(*model, **how)`, beside which this machine is measured where need be; the target names the machine found."""
    check_machine(target)
    if not registry.protocol(target.protocol).scheduled:
        return prepare(*model, **how), target
    with this_machine.speed_of(target.machine) as speed:
        prepared = prepare(*model, **how)
        return prepared, replace(target, machine=speed() or REFERENCE)


def task_of(
    prepared: Prepared, target: Target | None = None, objective: Objective | None = None, progress: Progress | None = None
) -> Task:
    """What there is to choose for, as the search takes it."""
    target, objective = target or Target(), objective or Objective()
    chosen, few = target.settings, subset_of(prepared.graph, prepared.inputs)
    program = draft = LastProgram(lambda plan: schedule(prepared, plan, chosen))
    if large(prepared.graph, prepared.inputs):
        some, whole = replace(prepared, inputs=few), few is prepared.inputs
        rough = replace(chosen, tolerance=math.inf, answers=chosen.answers if whole else 0)
        draft = LastProgram(lambda plan: schedule(some, plan, rough))
        if whole:  # then what a draft lacks is the check
            program = LastProgram(lambda plan: _checked(prepared, plan, draft(plan), chosen))
    return Task(
        graph=prepared.graph,
        statistics=prepared.statistics,
        inputs=prepared.inputs,
        calibrated=prepared.calibrated,
        given=prepared.basis.given,
        level=objective.level,
        protocol=registry.protocol(target.protocol),
        network=Network.parse(target.network),
        compute=compute_of(target),
        metric=metric_of(prepared.graph) if objective.metric is None else load_metric(objective.metric),
        passes=_rewritten,
        program=program,
        subset=few,
        draft_program=draft,
        expanded=lambda plan: as_run(prepared, plan, registry.protocol(target.protocol)),
        settings=chosen,
        progress=progress or (lambda stage, done, total: None),
        accurate=lambda task: accurate(prepared, task),
        reach=prepared.reach,
        effort=objective.effort,
        kept=kept_sites(objective, nn_level.sites(prepared.graph)),
    )


def accurate(prepared: Prepared, task: Task) -> Priced:
    """The plan without a search: the accurate one, laid out and with gates where that takes least time under the protocol."""
    return precise(prepared, task.level, lambda plan: quickest(plan, task))


def first_plan(prepared: Prepared, level: Level, barred: Collection[tuple[str, str]] = ()) -> Plan:
    """The accurate plan of a level, without a search; `barred`: (site, approximation) that are not to be chosen there."""
    return default_plan(prepared.graph, prepared.statistics, registry.approximations(), level, barred)


def precise(prepared: Prepared, level: Level, make: Callable[[Plan], Result]) -> Result:
    """What `make` gives for the accurate plan of a level.

    Where its program is too coarse in fixed point, the approximation at the site that is to blame gives way to the next
    best one there. PrecisionError where none is left.
    """
    barred: set[tuple[str, str]] = set()
    while True:
        plan = first_plan(prepared, level, barred)
        try:
            return make(plan)
        except PrecisionError as error:
            site = error.site or ""
            blamed = {(site, one.approximation) for one in plan.choices[site].choices} if site in plan.choices else set()
            if not blamed or len(barred) >= MOST_BARRED:
                raise
            try:
                first_plan(prepared, level, barred | blamed)
            except UnsupportedOperator:
                raise error from None
            barred |= blamed
