"""Positions taken out of shares: what `index` and `take` become in the online program. Local."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from mpcc.ir import online

aten = torch.ops.aten
Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A kernel and its arguments after the shares."""


def indexed(indices: Sequence[Any]) -> Call:
    """`index` with constant lists, None for a dimension that stays whole."""
    return online.gather, (tuple(map(_frozen, indices)),)


def taken(dim: Any, index: Any) -> Call:
    """`take`: a slice where the positions are a run."""
    first, count = index[0], len(index)
    if tuple(index) == tuple(range(first, first + count)):
        return aten.slice.Tensor, (dim, first, first + count)
    return online.gather, ((*[None] * dim, tuple(index)),)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value
