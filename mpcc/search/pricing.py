"""What plans cost: as programs where the engine schedules them for the protocol, else by the protocol's price table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import fx

from mpcc import registry
from mpcc.approximate import Plan
from mpcc.calibration.ranges import record_ranges
from mpcc.cost import Budget, Estimate, Network, Protocol, Work, estimate_graph
from mpcc.errors import PrecisionError
from mpcc.lowering import lower
from mpcc.lowering.fixed_scale import scaled
from mpcc.program import Program

from .prices import Calls
from .problem import Weights
from .program_cost import program_estimate, sizeless_seconds

if TYPE_CHECKING:
    from .task import Task

PLACE_BITS = 12
"""Fraction bits of what enters a neighbourhood. In a whole program products stand before it; `Settings.fraction_bits` (14) of
an operand less the bits that their sums carry leave about as many."""


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


def place_work(task: Task, graph: fx.GraphModule, calls: Calls) -> tuple[Work, float]:
    """The work of a neighbourhood (an mpc-level graph with calls of it), and the local seconds that know no size."""
    graph, protocol, speed = task.passes(graph), task.protocol, seconds_of(task.protocol, task.network)
    if not protocol.scheduled and not protocol.circuits:
        return work_of(estimate_graph(graph, protocol, task.network), speed), 0.0
    record_ranges(graph, calls)
    if protocol.circuits:
        return work_of(estimate_graph(scaled(graph).graph, protocol, task.network), speed), 0.0
    program = lower(graph, replace(task.settings, input_bits=PLACE_BITS, answers=0))  # noise costs nothing
    work = work_of(program_estimate(program, protocol, task.network, task.compute), speed)
    own = Work(work.rounds - 1, work.bytes, work.local_seconds)  # without the opening of its own outputs
    return own, sizeless_seconds(program, task.compute)


def work_of(estimate: Estimate, speed: Weights) -> Work:
    """Rounds and bytes of an estimate, and what its seconds hold besides these."""
    spent = speed.of(Work(estimate.rounds, estimate.bytes), 0.0)
    return Work(float(estimate.rounds), float(estimate.bytes), float(estimate.seconds) - spent)


def seconds_of(protocol: Protocol, network: Network) -> Weights:
    """Online seconds as a linear measure of rounds, bytes and local work."""
    return Weights(protocol.rtt_per_round * network.rtt_seconds, protocol.link_share / network.bandwidth, 1.0)


def weights_of(budget: Budget, speed: Weights) -> Weights:
    """What a budget bounds, as a linear measure."""
    return {"seconds": speed, "bytes": Weights(bytes=1.0), "rounds": Weights(rounds=1.0)}[budget.unit]


def stock_estimate(source: fx.GraphModule, protocol: Protocol, network: Network) -> Estimate:
    """What the model costs as it was, under the protocol or under the one that it names as its baseline.

    What that one cannot price is listed in the estimate, which is then a lower bound: a comparison stops nobody.
    """
    return estimate_graph(source, registry.protocol(protocol.baseline or protocol.name), network, partial=True)


def reached(estimate: Estimate) -> str:
    """What a plan takes, in the words of a message."""
    return f"{float(estimate.seconds):.3g} s, {int(estimate.rounds)} rounds, {float(estimate.bytes) / 1e6:.3g} MB"
