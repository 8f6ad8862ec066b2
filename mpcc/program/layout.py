"""Where each opening lies in its message: words first, then the planes of 4, 2 and 1 bytes of narrower ones.

    opened modulo 2^40, n values      the low 4 bytes of all of them, and further on their fifth bytes

So every plane is aligned to its own size, and both ends cut a message up by strided copies. Little-endian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from mpcc.ir import online
from mpcc.ir.nn import size_of
from mpcc.ir.ring import RING_BITS

SIZES = (8, 4, 2, 1)


@dataclass(frozen=True)
class Plane:
    """`count` pieces of `size` bytes each, from byte `start` of a message; of each value the bytes from `offset` on."""

    size: int
    start: int
    count: int
    offset: int


@dataclass(frozen=True)
class Place:
    """One opening in its message."""

    name: str
    planes: tuple[Plane, ...]

    @property
    def bytes(self) -> int:
        return sum(plane.size * plane.count for plane in self.planes)


def ring_of(node: fx.Node) -> int:
    """How many bits of each value an opening sends. Packed bits travel as whole words."""
    ring = node.args[1] if node.target is online.open_ and len(node.args) > 1 else RING_BITS
    assert isinstance(ring, int)
    return ring


def sizes(ring: int) -> list[int]:
    """The planes of a value of whole bytes: 40 -> [4, 1]."""
    return [size for size in SIZES if ring // 8 & size]


def places(opens: Sequence[fx.Node]) -> tuple[Place, ...]:
    """The layout of the message that carries these openings."""
    planes: dict[str, list[Plane]] = {node.name: [] for node in opens}
    start = 0
    for size in SIZES:
        for node in opens:
            if size in sizes(ring_of(node)):
                count = size_of(node)
                taken = planes[node.name]
                taken.append(Plane(size, start, count, sum(plane.size for plane in taken)))
                start += size * count
    return tuple(Place(name, tuple(found)) for name, found in planes.items())
