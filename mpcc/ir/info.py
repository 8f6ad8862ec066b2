"""What a node of an online or dealer graph carries besides its shape: one frozen `Info`, declared here and nowhere else.

    node.meta = {"val": meta tensor, "info": Info(origin=Origin("blocks.0.attn", "blocks.0.attn.softmax"), phase="online", ...)}
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import fx

Phase = Literal["setup", "offline", "online"]
Way = Literal["both", "to_server", "ahead"]
"""Of an opening: see `mpcc.program.ways`."""
KEY = "info"


@dataclass(frozen=True)
class Origin:
    """Where in the user's model a node comes from: layer, site, part of a split site, and the mpc primitive it belongs to."""

    layer: str = ""
    site: str = ""
    part: str = ""
    primitive: str = ""


@dataclass(frozen=True)
class Input:
    """A placeholder for the client's input `name`, encoded as round(value * scale)."""

    name: str
    scale: float


@dataclass(frozen=True)
class Weight:
    """A placeholder for the server's tensor `constant`, encoded as round(value * scale); several nodes may encode one tensor.

    `public`: the other party has it as well, and encodes it likewise.
    """

    constant: str
    scale: float
    public: bool = False


@dataclass(frozen=True)
class End:
    """The node holds the result of `site` at this scale."""

    site: str
    scale: float


@dataclass(frozen=True)
class Info:
    """`given` says what a placeholder stands for (None: a share of a dealer value). Phase, level, way come with the schedule."""

    origin: Origin = field(default_factory=Origin)
    given: Input | Weight | None = None
    phase: Phase | None = None
    level: int = 0
    """How many mutual openings lie before the node, itself included."""
    end: End | None = None
    way: Way = "both"


def info_of(node: fx.Node) -> Info:
    """The node's Info. KeyError on a node of another level."""
    found: Info = node.meta[KEY]
    return found


def annotate(node: fx.Node, **changes: Any) -> None:
    """Change fields of the node's Info."""
    node.meta[KEY] = replace(info_of(node), **changes)


def input_of(node: fx.Node) -> Input | None:
    """What the node stands for if it is an input of the program."""
    given = _given(node)
    return given if isinstance(given, Input) else None


def weight_of(node: fx.Node) -> Weight | None:
    """What the node stands for if it is an encoded weight."""
    given = _given(node)
    return given if isinstance(given, Weight) else None


def scale_of(node: fx.Node) -> float:
    """The scale at which an input or a weight is encoded."""
    given = info_of(node).given
    assert given is not None, node
    return given.scale


def _given(node: fx.Node) -> Input | Weight | None:
    return info_of(node).given if node.op == "placeholder" else None
