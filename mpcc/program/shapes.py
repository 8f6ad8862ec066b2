"""Shapes of the kernels that a program has by the thousand, so that they need not be run on meta tensors to be known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpcc.ir import dealer, online
from mpcc.ir.nn import shape_of

Shape = tuple[int, ...]


def known_shape(target: Callable[..., Any], args: tuple[Any, ...]) -> Shape | None:
    """The shape of target(*args), None where it has to be tried."""
    if target in SAME:
        return shape_of(args[0])
    if target in BROADCAST:
        operands = args[0] if target in LISTS else args[:2]
        return broadcast([shape_of(n) for n in operands])
    return None


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The common shape, by torch's rules."""
    rank = max(map(len, shapes))
    columns = zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True)
    return tuple(next((size for size in column if size != 1), 1) for column in columns)


SAME = frozenset(
    {online.open_, online.open_weight, online.reveal, online.mask_with, online.times, online.add_public, online.moved,
     online.apply_mask, online.scale_rows, online.truncate_locally, online.truncated, online.power_sum, dealer.high, dealer.top}
)  # fmt: skip
"""Element by element of their first argument."""
LISTS = frozenset({online.combine, online.multilinear})
BROADCAST = LISTS | {online.add, dealer.multiply}
