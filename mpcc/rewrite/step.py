"""A step on the way from a model to a program, as an observer of the pipeline sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import fx

from mpcc.ir import nn, verify_mpc

from .edit import Refusal
from .order import AfterPass
from .passes import Pass, Rewritten


@dataclass(frozen=True)
class Step:
    """The graph after a step.

    `level`: nn, mpc, online or dealer. `name`: the pass, or what else made the graph (`capture`, `expand`, `lower`).
    `layers`: where the pass fired. `refusals`: where it did not fire, and why.
    """

    level: str
    name: str
    graph: fx.Graph
    changed: bool = True
    layers: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()


Observer = Callable[[Step], None]


def observers(*given: Observer | None) -> Observer | None:
    """One observer for all that are given; None if there are none."""
    found = [one for one in given if one is not None]

    def each(step: Step) -> None:
        for one in found:
            one(step)

    return each if found else None


def after_each(level: str, observe: Observer | None) -> AfterPass:
    """What happens between two passes of a level: the graph is verified and shown to the observer."""
    verify = nn.verify if level == "nn" else verify_mpc.verify

    def after(rewrite: Pass, done: Rewritten) -> None:
        if done.modified or level == "nn":
            verify(done.graph_module)
        if observe is not None:
            observe(Step(level, rewrite.name, done.graph_module.graph, done.modified, done.layers, done.refusals))

    return after
