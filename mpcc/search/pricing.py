"""What plans cost: as programs where the engine schedules them for the protocol, else by the protocol's price table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import fx

from mpcc import registry
from mpcc.approximate import Plan
from mpcc.cost import Estimate, Network, Protocol, estimate_graph
from mpcc.errors import PrecisionError
from mpcc.program import Program

from .program_cost import program_estimate

if TYPE_CHECKING:
    from .task import Task


@dataclass(frozen=True)
class Priced:
    """A plan, its program, and what that costs."""

    plan: Plan
    program: Program
    estimate: Estimate


def made(task: Task, plan: Plan) -> Priced:
    """A plan with its program and its cost. The program is the engine's own under every protocol."""
    program = task.program(plan)
    if not task.protocol.scheduled:
        return Priced(plan, program, priced(task, plan))
    return Priced(plan, program, program_estimate(program, task.protocol, task.network, task.compute))


def fastest(plans: Sequence[Plan], task: Task) -> Priced:
    """The plan whose program takes the least time, of those that are precise enough; PrecisionError where none is."""
    found: list[Priced] = []
    for plan in plans:
        try:
            found.append(made(task, plan))
        except PrecisionError as error:
            refused = error
    if not found:
        raise refused
    return min(found, key=lambda p: float(p.estimate.seconds))


def priced(task: Task, plan: Plan) -> Estimate:
    """The cost of a plan under the task's protocol: of its program, or by the price table of its mpc-level graph."""
    if task.protocol.scheduled:
        return made(task, plan).estimate
    return estimate_graph(task.expanded(plan), task.protocol, task.network)


def stock_estimate(source: fx.GraphModule, protocol: Protocol, network: Network) -> Estimate:
    """What the model costs as it was, under the protocol or under the one that it names as its baseline."""
    return estimate_graph(source, registry.protocol(protocol.baseline or protocol.name), network)


def reached(estimate: Estimate) -> str:
    """What a plan takes, in the words of a message."""
    return f"{float(estimate.seconds):.3g} s, {int(estimate.rounds)} rounds, {float(estimate.bytes) / 1e6:.3g} MB"
