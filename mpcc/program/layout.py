"""Where each opening lies in its message: words first, then the planes of 32, 16, 8, 4, 2 and 1 bits of narrower ones.

    opened modulo 2^37, n values      the low 4 bytes of all of them, further on 4 bits of each, two to a byte, and then one bit

So every plane of whole bytes is aligned to its own size, and both ends cut a message up by strided copies. Little-endian; what
is packed into a byte stands there from the lowest bit up, and zeros fill the last byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from mpcc.ir import online
from mpcc.ir.nn import size_of
from mpcc.ir.ring import RING_BITS

SIZES = (64, 32, 16, 8, 4, 2, 1)
"""Bits of a plane's pieces."""


@dataclass(frozen=True)
class Plane:
    """`count` pieces of so many `bits` each, from byte `start` of a message; of each value the bits from `offset` on."""

    bits: int
    start: int
    count: int
    offset: int

    @property
    def bytes(self) -> int:
        return -(-self.bits * self.count // 8)


@dataclass(frozen=True)
class Place:
    """One opening in its message."""

    name: str
    planes: tuple[Plane, ...]

    @property
    def bytes(self) -> int:
        return sum(plane.bytes for plane in self.planes)


def ring_of(node: fx.Node) -> int:
    """How many bits of each value an opening sends. Packed bits travel as whole words."""
    ring = node.args[1] if node.target is online.open_ and len(node.args) > 1 else RING_BITS
    assert isinstance(ring, int)
    return ring


def sizes(ring: int) -> list[int]:
    """The planes of a value of so many bits: 37 -> [32, 4, 1]."""
    return [size for size in SIZES if ring & size]


def places(opens: Sequence[fx.Node]) -> tuple[Place, ...]:
    """The layout of the message that carries these openings."""
    planes: dict[str, list[Plane]] = {node.name: [] for node in opens}
    start = 0
    for size in SIZES:
        for node in opens:
            if size in sizes(ring_of(node)):
                count = size_of(node)
                taken = planes[node.name]
                taken.append(Plane(size, start, count, sum(plane.bits for plane in taken)))
                start += taken[-1].bytes
    return tuple(Place(name, tuple(found)) for name, found in planes.items())
