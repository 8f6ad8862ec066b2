"""Phases and rounds, read off the dependences of the online graph.

What depends on weights only is set-up, what depends on correlations only is offline, the rest is online. The round of an
opening is its depth: all openings of one depth travel in one message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import fx

from mpcc.ir import dealer, online
from mpcc.ir.nn import size_of

from .layout import Place, places

Phase = Literal["setup", "offline", "online"]
ORDER: dict[str, int] = {"setup": 0, "offline": 1, "online": 2}
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


def fixed_for_model(source: fx.Node) -> bool:
    """Whether a dealer value depends on weight masks only."""
    if source.target in dealer.RANDOM:
        return source.target is dealer.weight_mask
    return all(fixed_for_model(n) for n in source.all_input_nodes)


def annotate(graph: fx.Graph, fixed: set[fx.Node]) -> None:
    """Set `meta["phase"]` and `meta["level"]` on every node. `fixed`: correlations that live as long as the set-up."""
    for node in graph.nodes:
        if node.op == "output":
            continue
        if node.op == "placeholder":
            kind = node.meta["kind"]
            phase = "online" if kind == "input" else "setup" if kind == "weight" or node in fixed else "offline"
            node.meta.update(phase=phase, level=0)
            continue
        inputs = node.all_input_nodes
        phase = max((n.meta["phase"] for n in inputs), key=ORDER.__getitem__, default="setup")
        level = max((n.meta["level"] for n in inputs), default=0)
        node.meta.update(phase=phase, level=level + (1 if node.target in MUTUAL else 0))


def messages(graph: fx.Graph) -> list[Message]:
    """The exchanges of the online phase, in order. Arithmetic openings come before bits in each."""
    depth = max((n.meta["level"] for n in graph.nodes if n.op != "output"), default=0)
    opens: list[list[fx.Node]] = [[] for _ in range(depth)]
    for node in graph.nodes:
        if node.target in MUTUAL:
            opens[node.meta["level"] - 1].append(node)
    ordered = [sorted(group, key=lambda n: n.target is online.open_bits) for group in opens]
    return [Message(places(group)) for group in ordered]


def one_way_words(graph: fx.Graph, target: Any) -> int:
    """64-bit words sent one way by all nodes of a target (`open_weight`, `reveal`)."""
    return sum(size_of(n) for n in graph.nodes if n.target is target)
