"""The kinds of arguments that operations of a program take, each with what it accepts.

    read = integers(0, 63);   read([3, 5], {}) -> (3, 5);   read([3, 64], {}) -> ValueError: 64 is not between 0 and 63

A kind reads a plain JSON value (a node by its name) or what a graph holds already (a node as itself): `nodes` maps either
to the node. ValueError says what is wrong with a value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from keyword import iskeyword
from typing import Any

from torch import fx

Nodes = Mapping[Any, fx.Node]
Kind = Callable[[Any, Nodes], Any]

LONGEST_NAME, LONGEST_TEXT = 200, 1000
LONGEST_LIST = 1 << 20
"""Entries of a tuple of numbers: the positions of a `gather`, the weights of rows."""
MOST_DIMS = 16
MOST_ELEMENTS = 1 << 30
"""Elements of one value, 8 GiB as ring words. ViT-B/16 at 224 x 224 stays below 2^20."""
LEAST_SCALE, LARGEST_SCALE = 2.0**-256, 2.0**256
"""Of a fixed-point encoding, in magnitude. A ring of 64 bits leaves no use for scales anywhere near."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def shown(value: object) -> str:
    """A value of a file as messages show it: short, and without control characters."""
    text = ascii(value) if not isinstance(value, int) or abs(value) < 1 << 64 else "an integer of more than 64 bits"
    return text if len(text) <= 60 else text[:57] + "..."


def name(value: Any) -> str:
    """An identifier of ASCII letters, digits and underscores that is not a keyword."""
    if not isinstance(value, str) or len(value) > LONGEST_NAME or not _NAME.fullmatch(value) or iskeyword(value):
        raise ValueError(f"{shown(value)} is not a valid name")
    return value


def text(value: Any, nodes: Nodes | None = None) -> str:
    """Text of the user's (a layer, a tensor's name): printable, of bounded length. It is only ever shown and compared."""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
        raise ValueError(f"{shown(value)} is not printable text of at most {LONGEST_TEXT} characters")
    return value


def printable(value: str) -> str:
    """The value as `text` takes it: cut to length, with a question mark for whatever cannot be shown."""
    return "".join(letter if letter.isprintable() else "?" for letter in value[:LONGEST_TEXT])


def number(value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
        limits = "" if math.isinf(low) else f" between {low:g} and {high:g}"
        raise ValueError(f"{shown(value)} is not a finite number{limits}")
    return float(value)


def scale(value: Any, nodes: Nodes | None = None) -> float:
    """A scale of fixed point, of either sign."""
    found = number(value)
    if not LEAST_SCALE <= abs(found) <= LARGEST_SCALE:
        raise ValueError(f"{shown(value)} is not a scale of fixed point")
    return found


def probability(value: Any, nodes: Nodes | None = None) -> float:
    return number(value, 0.0, 1.0)


def whole(value: Any, low: int, high: int) -> int:
    """An integer in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{shown(value)} is not an integer")
    if not low <= value <= high:
        raise ValueError(f"{shown(value)} is not between {low} and {high}")
    return value


def sizes(value: Any) -> tuple[int, ...]:
    """A shape of 1 to `MOST_ELEMENTS` elements."""
    found = tuple(whole(size, 1, MOST_ELEMENTS) for size in entries(value, MOST_DIMS))
    if math.prod(found) > MOST_ELEMENTS:
        raise ValueError(f"the shape {shown(list(found))} has more than {MOST_ELEMENTS} elements")
    return found


def entries(value: Any, most: int) -> list[Any] | tuple[Any, ...]:
    """A list of at most `most` entries."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"{shown(value)} is not a list")
    if len(value) > most:
        raise ValueError(f"a list of {len(value)} entries, more than {most}")
    return value


# ---- kinds ---------------------------------------------------------------------------------------------------------


def node(value: Any, nodes: Nodes) -> fx.Node:
    """A value that was computed before."""
    found = nodes.get(value) if isinstance(value, str | fx.Node) else None
    if found is None:
        raise ValueError(f"{shown(value)} is not a value computed before it")
    return found


def shape(value: Any, nodes: Nodes) -> tuple[int, ...]:
    return sizes(value)


def flag(value: Any, nodes: Nodes) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is not true or false")
    return value


def hexadecimal(value: Any, nodes: Nodes) -> str:
    """Packed bits of a public mask."""
    if not isinstance(value, str) or len(value) % 2 or not re.fullmatch("[0-9a-f]*", value):
        raise ValueError(f"{shown(value)} is not hexadecimal text")
    return value


def nested(value: Any, nodes: Nodes, depth: int = 0) -> Any:
    """Positions along one dimension: integers, or lists of such (of one length: torch checks)."""
    if not isinstance(value, list | tuple):
        return whole(value, -(1 << 31), 1 << 31)
    if depth == MOST_DIMS:
        raise ValueError(f"lists within lists, more than {MOST_DIMS} deep")
    return tuple(nested(one, nodes, depth + 1) for one in entries(value, LONGEST_LIST))


def integer(low: int, high: int) -> Kind:
    return lambda value, nodes: whole(value, low, high)


def many(kind: Kind, most: int = LONGEST_LIST, least: int = 0) -> Kind:
    """A tuple of `least` to `most` of a kind."""

    def read(value: Any, nodes: Nodes) -> tuple[Any, ...]:
        found = entries(value, most)
        if len(found) < least:
            raise ValueError(f"a list of {len(found)} entries, fewer than {least}")
        return tuple(kind(one, nodes) for one in found)

    return read


def integers(low: int, high: int, most: int = LONGEST_LIST) -> Kind:
    return many(integer(low, high), most)


def maybe(kind: Kind) -> Kind:
    """The kind, or nothing."""
    return lambda value, nodes: None if value is None else kind(value, nodes)


def one_of(*words: str) -> Kind:
    def read(value: Any, nodes: Nodes) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"{shown(value)} is not one of {', '.join(words)}")
        return value

    return read


def fields(*kinds: Kind, or_none: bool = False) -> Kind:
    """A tuple with a kind for each place; with `or_none` the empty tuple as well."""

    def read(value: Any, nodes: Nodes) -> tuple[Any, ...]:
        found = entries(value, len(kinds))
        if len(found) != len(kinds) and (found or not or_none):
            raise ValueError(f"a list of {len(found)} entries, not {len(kinds)}")
        return tuple(kind(one, nodes) for kind, one in zip(kinds, found, strict=False))

    return read
