"""What a search is for, and what it answers: a task, the points that it finds, the one that was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from mpcc.approximate import Level, Plan, SiteStatistics
from mpcc.calibration.ranges import Inputs, stack_calls, values_a_call
from mpcc.cost import Compute, Estimate, Network, Protocol
from mpcc.lowering import Settings
from mpcc.program import Program

from .candidates import Candidates
from .metrics import Metric
from .parts import Parts
from .sensitivity import Sensitivity

Progress = Callable[[str, int, int], None]


DRAFT_VALUES, FEWEST_DRAFTED = 1 << 27, 2
"""Values, all nodes and calls together, from which the programs of a search take their ranges; at least so many calls."""


def large(graph: fx.GraphModule, inputs: Inputs) -> bool:
    """Whether a search has no time to run all inputs for every plan, and to check what comes out."""
    return values_a_call(graph) * len(stack_calls(graph, inputs)[0]) > DRAFT_VALUES


def drafted(graph: fx.GraphModule, inputs: Inputs) -> Inputs:
    """The calibration inputs, or the first of them where they are too many for a search."""
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

    `passes` are the mpc-level rewrites, `program` makes the whole program of a plan. Of a large model `few` are some of
    the inputs, and `draft` makes a program with the ranges that these have, unchecked; else it is `program` itself.
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
    few: Inputs
    draft: Callable[[Plan], Program]
    expanded: Callable[[Plan], fx.GraphModule]
    settings: Settings
    progress: Progress = field(default=lambda stage, done, total: None)

    @property
    def notes(self) -> dict[str, Any]:
        """What a plan says it was made for."""
        return {
            "protocol": self.protocol.name, "network": self.network.name, "machine": self.compute.note, "level": self.level,
            "calibrated": self.calibrated,
        }  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A plan with its predicted cost, its damage and what it drops, on `images` calibration inputs."""

    plan: Plan
    estimate: Estimate
    damage: float
    drop: float
    predicted_damage: float


@dataclass(frozen=True)
class Chosen:
    """The point that was chosen, out of what, and how the drop was counted."""

    point: Point
    candidates: Mapping[str, Candidates]
    metric: Metric
    images: int
    judged: int
    tried: int


@dataclass(frozen=True)
class Measurements:
    """What no price decides: roughly pruned members, their damages, the inputs that these were measured on, sites' parts.

    Not `swept`, damages are the errors at the sites, for lack of time; where that is `scarce`, those of parts are shared out
    by their errors, and damages of joint choices in proportion. `judged` keeps what plans do (plan.json
    -> damage, drop), `recipes` what published ones are on these inputs, `sound` the plans that a program
    was made of.
    """

    found: Mapping[str, Candidates]
    damages: Mapping[str, Sequence[float]]
    sensitivity: Sensitivity
    parts: Mapping[str, Parts]
    swept: bool = True
    scarce: bool = False
    judged: dict[str, tuple[float, float]] = field(default_factory=dict)
    recipes: dict[str, Plan] = field(default_factory=dict)
    sound: set[str] = field(default_factory=set)
