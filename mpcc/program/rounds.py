"""Phases and rounds, read off the dependences of the online graph.

What depends on weights only is set-up, what depends on correlations only is offline, the rest is online. The round of an
opening is its depth: all openings of one depth travel in one message, each way what is sent that way (`ways`).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from mpcc.ir import dealer, online
from mpcc.ir.info import Phase, Way, annotate, info_of, input_of, weight_of
from mpcc.ir.nn import size_of

from .layout import Place, places
from .ways import known_to_client, way_of

ORDER: dict[Phase, int] = {"setup": 0, "offline": 1, "online": 2}
MUTUAL = frozenset({online.open_, online.open_bits})
"""Openings to both parties: they make the rounds."""


@dataclass(frozen=True)
class Message:
    """One exchange: the names of its openings in order, and where they lie in what the server and the client send."""

    opens: tuple[str, ...]
    sides: tuple[tuple[Place, ...], tuple[Place, ...]]

    def bytes(self, party: int) -> int:
        """What a party sends, without the zeros that fill the last word."""
        return sum(place.bytes for place in self.sides[party])

    def words(self, party: int) -> int:
        """64-bit words that a party sends."""
        return -(-self.bytes(party) // 8)


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
    """Set phase, level and way of every node of an online graph. `fixed`: correlations that live as long as the set-up."""
    for node in graph.nodes:
        if node.op != "output":
            phase, level = placed(node, fixed)
            annotate(node, phase=phase, level=level)
    for node, way in directions(graph).items():
        annotate(node, way=way)


def directions(graph: fx.Graph) -> dict[fx.Node, Way]:
    """The way of every arithmetic opening."""
    known = known_to_client(graph)
    return {node: way_of(node, known) for node in graph.nodes if node.target is online.open_}


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
    return [_message(group) for group in ordered]


def _message(opens: Sequence[fx.Node]) -> Message:
    server = places([node for node in opens if info_of(node).way != "to_server"])
    client = places([node for node in opens if info_of(node).way != "ahead"])
    return Message(tuple(node.name for node in opens), (server, client))


def ahead(graph: fx.Graph) -> tuple[Place, ...]:
    """Where the client's parts lie in what it sends before the input."""
    return places([node for node in graph.nodes if node.op == "call_function" and info_of(node).way == "ahead"])


def one_way_words(graph: fx.Graph, target: Any) -> int:
    """64-bit words sent one way by all nodes of a target (`open_weight`, `reveal`)."""
    return sum(size_of(n) for n in graph.nodes if n.target is target)
