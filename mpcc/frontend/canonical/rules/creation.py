"""Tensors made from an input's shape alone (zeros_like, new_ones ...) are constants."""

from __future__ import annotations

from typing import Any

import torch

from mpcc.errors import CaptureError

from ..builder import Builder
from ..values import Constant, Rules, Value
from ..values import shape as shape_of

aten = torch.ops.aten


def like(fill: Any) -> Any:
    def rule(b: Builder, x: Value, *args: Any, **options: Any) -> Any:
        number = args[0] if fill is None else fill
        wanted = options.get("dtype") or torch.float32
        return Constant(torch.full(shape_of(x), number, dtype=wanted))

    return rule


def drawn(function: Any) -> Any:
    """Random numbers are drawn once, at capture."""

    def rule(b: Builder, x: Value, **options: Any) -> Any:
        return b.compute(function, (list(shape_of(x)),), {})

    return rule


def new(fill: Any) -> Any:
    def rule(b: Builder, x: Value, sizes: Any, *args: Any, **options: Any) -> Any:
        number = args[0] if fill is None else fill
        wanted = options.get("dtype") or torch.float32
        return Constant(torch.full(list(sizes), number, dtype=wanted))

    return rule


def size(b: Builder, x: Value, dim: int) -> int:
    return shape_of(x)[dim]


def item(b: Builder, x: Value) -> Any:
    """A number read off a secret value would decide about shapes or branches."""
    raise CaptureError(
        "a number is read from the values of an input, which are secret",
        where=f"layer {b.layer}" if b.layer else None,
        hint="Sizes, indices and branches must follow from shapes and constants alone.",
    )


RULES: Rules = {
    aten.item.default: item,
    aten._local_scalar_dense.default: item,
    aten.zeros_like.default: like(0),
    aten.ones_like.default: like(1),
    aten.full_like.default: like(None),
    aten.empty_like.default: like(0),
    aten.rand_like.default: drawn(aten.rand.default),
    aten.randn_like.default: drawn(aten.randn.default),
    aten.new_zeros.default: new(0),
    aten.new_ones.default: new(1),
    aten.new_full.default: new(None),
    aten.new_empty.default: new(0),
    aten.sym_size.int: size,
}
