"""What a search is for, and what it answers: a task, the points that it finds, the one that was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from mpcc.approximate import Level, Plan, SiteStatistics
from mpcc.approximate.logit_margin import STRETCH
from mpcc.calibration.basis import ENOUGH
from mpcc.calibration.guard import NOTE, Guard
from mpcc.calibration.ranges import Inputs, stack_calls, values_a_call
from mpcc.cost import Compute, Estimate, Network, Protocol
from mpcc.lowering import Settings
from mpcc.program import Program

from .bars import Bar
from .candidates import Candidates
from .effort import DEFAULT
from .metrics import Metric

if TYPE_CHECKING:
    from .pricing import Priced

Progress = Callable[[str, int, int], None]

DRAFT_VALUES, FEWEST_DRAFTED = 1 << 27, 2
"""Values, all nodes and calls together, from which the programs of a search take their ranges; at least so many calls."""

MENDED_VALUES = 1 << 29
"""Values, all nodes and measuring inputs together, up to which plans are compensated while they are compared: 128 inputs of a
model of 4 million values, twice the largest of benchmarks/zoo. Beyond, there is time for a few plans only."""


def large(graph: fx.GraphModule, inputs: Inputs) -> bool:
    """Whether a search has no time to run all inputs for every plan, and to check what comes out."""
    return values_a_call(graph) * len(stack_calls(graph, inputs)[0]) > DRAFT_VALUES


def subset_of(graph: fx.GraphModule, inputs: Inputs) -> Inputs:
    """The calibration inputs, or the first of them where they are too many for drafts."""
    columns = stack_calls(graph, inputs)
    few = max(FEWEST_DRAFTED, DRAFT_VALUES // max(1, values_a_call(graph)))
    return inputs if few >= len(columns[0]) else list(zip(*(column[:few] for column in columns), strict=True))


class LastProgram:
    """What makes programs of plans, and keeps the last one: what a search settles on is asked for again."""

    def __init__(self, make: Callable[[Plan], Program]) -> None:
        self.make = make
        self.kept: dict[str, Program] = {}

    def __call__(self, plan: Plan) -> Program:
        key = plan.key
        if key not in self.kept:
            self.kept.clear()  # first: two large programs need not be in memory
            self.kept[key] = self.make(plan)
        return self.kept[key]


@dataclass(frozen=True)
class Task:
    """What is to be chosen for, and with what: the graph with what calibration saw, the protocol, the network, the metric.

    `passes` are the mpc-level rewrites, `program` makes the whole program of a plan. Of a large model `subset` are some of
    the inputs, and `draft_program` makes a program with the ranges that these have, unchecked; else it is `program` itself.
    `compute` says what local work takes: predicted seconds depend on it.
    """

    graph: fx.GraphModule
    statistics: Mapping[str, SiteStatistics]
    inputs: Inputs
    calibrated: bool
    level: Level
    protocol: Protocol
    network: Network
    compute: Compute
    metric: Metric
    passes: Callable[[fx.GraphModule], fx.GraphModule]
    program: Callable[[Plan], Program]
    subset: Inputs
    draft_program: Callable[[Plan], Program]
    expanded: Callable[[Plan], fx.GraphModule]
    settings: Settings
    progress: Progress = field(default=lambda stage, done, total: None)
    given: int = 0
    """How many of the calibration inputs, the first ones, are the user's; the rest was made from the model."""
    accurate: Callable[[Task], Priced] | None = None
    """The plan without a search, for the task that is given: what every answer is held against."""
    reach: tuple[float, float] | None = None
    """What the user says of the values of inputs; else they are taken to lie within what calibration saw."""
    kept: frozenset[str] = frozenset()
    """Sites whose function stays as it is, whatever the level."""
    effort: float = DEFAULT
    """Seconds of trying plans, as `mpcc.search.effort` turns them into runs."""
    start: Plan | None = None
    """A plan that every answer is held against, as it is against the recipes: the user's own, or one of an earlier search."""
    compensate: bool = False
    """Whether the plan that is settled on will be compensated, so that plans are compared as they are after that."""

    @cached_property
    def columns(self) -> tuple[Tensor, ...]:
        """The calibration inputs, one tensor [calls, ...] for each input of the graph."""
        return stack_calls(self.graph, self.inputs)

    def level_at(self, site: str) -> Level:
        """How deep a change may go at a site."""
        return "bounded" if site in self.kept and self.level == "structural" else self.level

    @property
    def large(self) -> bool:
        """Whether whole programs take so long that only few can be made."""
        return self.draft_program is not self.program

    @property
    def real(self) -> int:
        """Calibration inputs that may judge: what was made from the model judges nothing, where there are others."""
        return self.given or len(self.columns[0])

    @property
    def apart(self) -> int:
        """The first of the calibration inputs that only judge; losses are measured on those before it. 0: too few to divide."""
        return self.real // 2 if self.real >= ENOUGH else 0

    @cached_property
    def mends(self) -> bool:
        """Whether plans are compensated while they are compared: it takes inputs for it, and time."""
        return self.compensate and self.apart > 0 and values_a_call(self.graph) * self.apart <= MENDED_VALUES

    def enlarged(self, calls: int) -> tuple[Tensor, ...]:
        """The first calibration inputs times `STRETCH`, within what inputs can be."""
        return tuple(self._enlarged(column, calls) for column in self.columns)

    def _enlarged(self, column: Tensor, calls: int) -> Tensor:
        if not column.is_floating_point():
            return column[:calls]
        low, high = self.reach or (float(column.min()), float(column.max()))
        return (column[:calls] * STRETCH).clamp(low, high)

    @property
    def notes(self) -> dict[str, Any]:
        """What a plan says it was made for."""
        return {
            "protocol": self.protocol.name, "network": self.network.name, "machine": self.compute.note, "level": self.level,
            "calibrated": self.calibrated, NOTE: self.guard.document(),
        }  # fmt: skip

    @cached_property
    def guard(self) -> Guard:
        """What clients compare their inputs and outputs with."""
        return Guard.of(self.graph, self.inputs, self.given)


@dataclass(frozen=True)
class Point:
    """A plan with its predicted cost, its quality loss (measured and predicted) and its accuracy drop."""

    plan: Plan
    estimate: Estimate
    loss: float
    drop: float
    predicted_loss: float


@dataclass(frozen=True)
class Chosen:
    """The point that was chosen and out of what. Its loss and drop were measured on `judged` inputs, apart from the `images`
    that chose among candidates, unless there were too few to divide. `runs`: plans that were run; `tried`: programs that were
    priced. `barred`: what was not chosen from. `stopped`: the clock or the user ended the search. `careful`: the fastest plan
    that was judged and does next to no harm. `accuracy`: of the model as it was and of the plan, where labels are known.
    `compensated`: loss and drop are those of the plan once compensated. `accurate`: the plan without a search that it was held
    against; None where that was not made, being far from the budget."""

    point: Point
    candidates: Mapping[str, Candidates]
    metric: Metric
    images: int
    judged: int
    tried: int
    runs: int = 0
    barred: tuple[Bar, ...] = ()
    stopped: bool = False
    careful: Point | None = None
    accuracy: tuple[float, float] | None = None
    compensated: bool = False
    accurate: Point | None = None
