"""What plans cost: as programs where the protocol is the engine's own, by price tables where it is another's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import fx

from mpcc import registry
from mpcc.approximate import Plan
from mpcc.cost import Estimate, Network, estimate_graph
from mpcc.errors import PrecisionError
from mpcc.program import Program

from .program_cost import program_estimate

if TYPE_CHECKING:
    from .task import Task

OWN = "crypten"
"""The protocol whose programs are really made: its prices are read off them."""


@dataclass(frozen=True)
class Priced:
    """A plan, its program, and what that costs."""

    plan: Plan
    program: Program
    estimate: Estimate


def made(task: Task, plan: Plan) -> Priced:
    """A plan with its program and its cost. The program is the engine's own under every protocol."""
    program = task.program(plan)
    own = task.protocol.name == OWN
    return Priced(plan, program, program_estimate(program, task.protocol, task.network) if own else priced(task, plan))


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
    if task.protocol.name == OWN:
        return made(task, plan).estimate
    return estimate_graph(task.expanded(plan), task.protocol, task.network)


def stock_estimate(source: fx.GraphModule, protocol: str, network: Network) -> Estimate:
    """What the model costs as it was: by CrypTen's own functions, or by the protocol's own."""
    return estimate_graph(source, registry.protocol("crypten-stock" if protocol == OWN else protocol), network)


def reached(estimate: Estimate) -> str:
    """What a plan takes, in the words of a message."""
    return f"{float(estimate.seconds):.3g} s, {int(estimate.rounds)} rounds, {float(estimate.bytes) / 1e6:.3g} MB"
