"""A step on the way from a model to a program, as an observer of the pipeline sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import fx

from .edit import Refusal


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
