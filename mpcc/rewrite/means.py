"""Means that are taken off: x - mean(x), three primitives on the mpc level, found and made.

    sub(x, scale(sum(x, (dim,), True), 1 / N))
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import fx

from mpcc.ir import mpc
from mpcc.ir.nn import shape_of

from .edit import Edit
from .match import positional

EQUAL = 1e-6
"""Relative: files keep constants in float32."""


def mean_taken(x: Any, reader: Any) -> int | None:
    """The dimension along which `reader` is x - mean(x); None if it is something else."""
    if not isinstance(reader, fx.Node) or reader.target is not mpc.sub or reader.args[0] is not x:
        return None
    mean: Any = reader.args[1]
    total: Any = mean.args[0] if isinstance(mean, fx.Node) and mean.target is mpc.scale else None
    if not isinstance(total, fx.Node) or total.target is not mpc.sum or total.args[0] is not x:
        return None
    _, dims, keepdim = (*positional(total), False)[:3]
    sizes = shape_of(reader.args[0])
    if len(dims) != 1 or not keepdim:
        return None
    dim: int = dims[0] % len(sizes)
    factor = float(positional(mean)[1])
    return dim if abs(factor * sizes[dim] - 1) < EQUAL else None


def means_taken(x: fx.Node, readers: Iterable[fx.Node]) -> dict[fx.Node, int | None]:
    """Those of the readers of x that take its mean off, with the dimension, and others, with None.

    The sum and the mean on the way to x - mean(x) are parts of it, and not listed.
    """
    found: dict[fx.Node, int | None] = {}
    for reader in readers:
        scales = list(reader.users) if reader.target is mpc.sum else []
        last = [end for one in scales for end in one.users]
        if not last or any(mean_taken(x, end) is None for end in last):
            found[reader] = mean_taken(x, reader)
    return found


def minus_mean(edit: Edit, anchor: fx.Node, value: fx.Node, dim: int) -> fx.Node:
    """value - mean(value) along `dim`, as three primitives before `anchor`."""
    total = edit.call(anchor, mpc.sum, value, (dim,), True, like=anchor)
    mean = edit.call(anchor, mpc.scale, total, 1.0 / shape_of(value)[dim], like=anchor)
    return edit.call(anchor, mpc.sub, value, mean, like=anchor)
