"""Phases and rounds, read off the dependences of the online graph.

What depends on weights only is set-up, what depends on correlations only is offline, the rest is online. The round of an
opening is its depth: all openings of one depth travel in one message.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from torch import fx

from mpcc.ir import dealer, online
from mpcc.ir.info import Phase, annotate, info_of, input_of, weight_of
from mpcc.ir.nn import size_of

from .layout import Place, places

ORDER: dict[Phase, int] = {"setup": 0, "offline": 1, "online": 2}
MUTUAL = frozenset({online.open_, online.open_bits})
"""Openings to both parties: they make the rounds."""


@dataclass(frozen=True)
class Message:
    """One exchange: its openings in order, each with its place, and how many 64-bit words each party sends."""

    places: tuple[Place, ...]

    @property
    def opens(self) -> tuple[str, ...]:
        """The names of the openings."""
        return tuple(place.name for place in self.places)

    @property
    def bytes(self) -> int:
        """What each party sends, without the zeros that fill the last word."""
        return sum(place.bytes for place in self.places)

    @property
    def words(self) -> int:
        return -(-self.bytes // 8)


def fixed_for_model(graph: fx.Graph) -> set[fx.Node]:
    """The values of a dealer graph that depend on masks of weights only: they live as long as the set-up."""
    fixed: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "call_function" and (
            node.target is dealer.weight_mask if node.target in dealer.RANDOM else all(n in fixed for n in node.all_input_nodes)
        ):
            fixed.add(node)
    return fixed


def schedule(graph: fx.Graph, fixed: Container[fx.Node]) -> None:
    """Set phase and level of every node of an online graph. `fixed`: correlations that live as long as the set-up."""
    for node in graph.nodes:
        if node.op != "output":
            phase, level = placed(node, fixed)
            annotate(node, phase=phase, level=level)


def placed(node: fx.Node, fixed: Container[fx.Node]) -> tuple[Phase, int]:
    """(phase, level) of a node, from those of what it reads."""
    if node.op == "placeholder":
        setup = weight_of(node) is not None or node in fixed
        return ("online" if input_of(node) is not None else "setup" if setup else "offline"), 0
    inputs = [info_of(n) for n in node.all_input_nodes]
    phases: list[Phase] = [info.phase or "setup" for info in inputs]
    phase: Phase = max(phases, key=ORDER.__getitem__, default="setup")
    return phase, max((info.level for info in inputs), default=0) + (node.target in MUTUAL)


def messages(graph: fx.Graph) -> list[Message]:
    """The exchanges of the online phase, in order. Arithmetic openings come before bits in each."""
    depth = max((info_of(n).level for n in graph.nodes if n.op != "output"), default=0)
    opens: list[list[fx.Node]] = [[] for _ in range(depth)]
    for node in graph.nodes:
        if node.target in MUTUAL:
            opens[info_of(node).level - 1].append(node)
    ordered = [sorted(group, key=lambda n: n.target is online.open_bits) for group in opens]
    return [Message(places(group)) for group in ordered]


def one_way_words(graph: fx.Graph, target: Any) -> int:
    """64-bit words sent one way by all nodes of a target (`open_weight`, `reveal`)."""
    return sum(size_of(n) for n in graph.nodes if n.target is target)
