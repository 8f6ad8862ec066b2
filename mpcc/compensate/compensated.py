"""A model and a plan in, the same with new weights behind every structural choice out, if that is nearer to the model as it was.

Products are solved anew in the order of the graph (`sweep`), each from what it reads by then to what makes the stream as it was
(`targets`); each choice is fitted again to what its site sees. A solve that is not better on inputs held apart is not taken, nor
is the whole if the outputs are no nearer on these and on further ones, which judge alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.approximate import Approximation, Choice, Plan, Split
from mpcc.approximate.expand import check_sites, site_function
from mpcc.calibration.calibrate import seen_at, statistics_of, stretch_of
from mpcc.calibration.quantities import site_of
from mpcc.calibration.range_check import structural_functions
from mpcc.calibration.ranges import Inputs, outputs_with, stack_calls
from mpcc.errors import RangeError
from mpcc.ir.names import replace_tensor
from mpcc.ir.nn import is_site, sites

from .inputs import FULL, Effort, Parts, parts_of
from .refit import refitted
from .sweep import Solved, Sweep, Tell, sweep

Outputs = tuple[Tensor, ...]
Measure = Callable[[Outputs, Outputs], float]


@dataclass(frozen=True)
class Judge:
    """What outputs, each [calls, ...], lose against those of the model as it was; `drop` has a name for people."""

    loss: Measure
    drop: Measure
    drop_name: str


@dataclass(frozen=True)
class Report:
    """What a compensation did. Losses and drops before and after are those of `judged` inputs that chose nothing; `why` says
    why it was not `taken`. `skipped`: weight -> why it was left as it was."""

    taken: bool
    why: str = ""
    inputs: int = 0
    judged: int = 0
    loss_before: float = 0.0
    loss_after: float = 0.0
    drop_before: float = 0.0
    drop_after: float = 0.0
    drop_name: str = ""
    solved: tuple[Solved, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    synthetic: bool = False
    """Whether some of the inputs were made from the model: what they judge says little of real ones."""
    steps: int = 0
    """Steps of gradient in each block after the solve."""

    def __str__(self) -> str:
        """What people read."""
        if not self.taken:
            return f"Not compensated: {self.why}."
        changed = len([one for one in self.solved if one.weight not in self.skipped])
        kind = " (made from the model: real ones may fare otherwise)" if self.synthetic else ""
        further = f", and moved on by {self.steps} steps of gradient a block" if self.steps else ""
        text = (
            f"Compensated without training: {changed} layer(s) have new weights, solved on {self.inputs - self.judged} inputs "
            f"without labels{further}. On {self.judged} others{kind}, {self.drop_name}: {self._shown(self.drop_before)} before, "
            f"{self._shown(self.drop_after)} after"
        )
        shared = sum("shared" in why for why in self.skipped.values())
        return f"{text}.{f' {shared} shared weight(s) were left as they were.' if shared else ''}"

    def _shown(self, drop: float) -> str:
        if not self.drop_name.startswith("images"):
            return f"{drop:.3g}"
        return f"{drop:.1%} \u00b1 {math.sqrt(max(drop * (1 - drop), 0.0) / self.judged):.1%}"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @property
    def note(self) -> dict[str, Any]:
        """What a plan says of it: nothing of the layers, since plans are public."""
        return {name: value for name, value in asdict(self).items() if name not in ("solved", "skipped", "why")}


@dataclass(frozen=True)
class Compensated:
    """`graph` has the new weights under the names of the old ones; `plan` is fitted to what its sites see then."""

    graph: fx.GraphModule
    plan: Plan
    report: Report


def structural_sites(plan: Plan, known: Mapping[str, Approximation]) -> list[str]:
    """The sites of a plan where some choice changes the function."""
    found = []
    for site, entry in plan.choices.items():
        levels = {known[one.approximation].level for one in entry.choices if one.approximation in known}
        found += [site] if "structural" in levels else []
    return found


def compensated(
    graph: fx.GraphModule,
    plan: Plan,
    inputs: Inputs,
    known: Mapping[str, Approximation],
    judge: Judge,
    *,
    synthetic: bool = False,
    effort: Effort = FULL,
    tell: Tell = lambda done, total: None,
) -> Compensated:
    """The graph (nn level) and the plan compensated, or both as they were with the reason in the report.

    `inputs` need no labels. Nothing that is given is changed. `tell` is told of every layer. RangeError where values of the plan
    leave what a program can hold.
    """
    check_sites(graph, plan)
    changed = structural_sites(plan, known)
    if not changed:
        return Compensated(graph, plan, Report(False, "no choice of the plan is structural"))
    parts = parts_of(graph, stack_calls(graph, inputs), effort)
    if parts is None:
        return Compensated(graph, plan, Report(False, "too few inputs, or too large a model, to judge new weights"))
    fitting = _Fitting(plan, known, parts.own, synthetic)
    found = sweep(graph, parts.calls, [sites(graph)[site] for site in changed], fitting, tell)
    report = _report(found, _as_planned(graph, plan, known, parts), parts, judge, effort.steps)
    if not report.taken:
        return Compensated(graph, plan, report)
    return Compensated(with_weights(graph, found.weights), Plan({**plan.choices, **fitting.choices}, plan.notes), report)


def with_weights(graph: fx.GraphModule, weights: Mapping[str, Tensor]) -> fx.GraphModule:
    """A copy of a graph with other values for some of its parameters."""
    made = copy.deepcopy(graph)
    for name, value in weights.items():
        replace_tensor(made, name, value)
    return made


class _Fitting:
    """What every site computes now: a structural choice as fitted to what it sees; others compute what they did."""

    def __init__(self, plan: Plan, known: Mapping[str, Approximation], own: int, synthetic: bool) -> None:
        self.plan, self.known, self.own, self.synthetic = plan, known, own, synthetic
        self.choices: dict[str, Choice | Split] = {}

    def __call__(self, node: fx.Node, see: Callable[..., Any]) -> Callable[..., Any]:
        if not is_site(node):
            return node.target  # type: ignore[return-value]
        site, stretch = node.meta["site"], stretch_of(self.synthetic)
        rows = see(lambda *args, **kwargs: seen_at(node, args, kwargs, stretch, self.known.values()))
        rows = {name: (one[self.own :], two[self.own :]) for name, (one, two) in rows.items()}
        seen = statistics_of(site_of(node), rows, self.synthetic, stretch)
        self.choices[site] = refitted(self.plan.choices[site], seen, self.known)
        if site not in structural_sites(Plan({site: self.choices[site]}), self.known):
            return node.target  # type: ignore[return-value]
        return site_function(node, self.choices[site], self.known)


def _as_planned(graph: fx.GraphModule, plan: Plan, known: Mapping[str, Approximation], parts: Parts) -> Outputs:
    """The outputs of the plan without compensation, on the calls that the equations have not seen."""
    columns = tuple(column[parts.calls.fit :] for column in parts.calls.columns)
    return outputs_with(graph, list(zip(*columns, strict=True)), structural_functions(graph, plan, known))


def _report(found: Sweep, plain: Outputs, parts: Parts, judge: Judge, steps: int) -> Report:
    """Better on all calls that the equations have not seen, or not taken; figures are those of the calls that only judge."""
    expected, made = (tuple(value[parts.calls.fit :] for value in one) for one in (found.outputs_as_was, found.outputs))
    if not all(bool(torch.isfinite(value).all()) for value in made):
        raise RangeError("with compensated weights, outputs are NaN or infinite")
    taken = judge.loss(made, expected) < judge.loss(plain, expected)
    why = "" if taken else "on inputs held apart the outputs are no nearer to those of the model as it was"
    expected, made, plain = (tuple(value[-parts.judging :] for value in one) for one in (expected, made, plain))
    given = len(parts.calls.columns[0]) - parts.own
    return Report(
        taken, why, given, parts.judging, judge.loss(plain, expected), judge.loss(made, expected), judge.drop(plain, expected),
        judge.drop(made, expected), judge.drop_name, tuple(found.solved), found.skipped, steps=steps,
    )  # fmt: skip
