"""What is known of the values of a secret number: whether they are whole, whether they are 0 and 1.

The canonical graph holds floats only. What was a truth value or a whole number in the user's model is marked so while it is read
(`mark`); sums and products of whole numbers are whole as well.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from .values import Constant, called

aten = torch.ops.aten
WHOLE, BIT = "whole", "bit"
"""Entries of a node's metadata: its values are whole numbers, its values are 0 and 1."""
MASKED = "masked"
"""Likewise: where a secret mask hides it, a number stands for minus infinity."""
MOST_LOOKED_AT = 1 << 20
_ARITHMETIC = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.neg.default, aten.sum.dim_IntList)
_MOVING = (
    aten.reshape.default, aten.permute.default, aten.expand.default, aten.slice.Tensor, aten.select.int, aten.cat.default,
    aten.index.Tensor, aten.flip.default, aten.roll.default,
)  # fmt: skip


def mark(value: Any, seen: Any) -> None:
    """Keep of a node what the type says that `seen`, its value in the user's model, had."""
    if isinstance(value, fx.Node) and isinstance(seen, torch.Tensor) and not seen.dtype.is_floating_point:
        value.meta[BIT if seen.dtype == torch.bool else WHOLE] = True


def is_bit(value: Any) -> bool:
    """Whether all its values are 0 or 1, as far as its making tells."""
    if isinstance(value, Constant):
        return value.value.dtype == torch.bool or bool(((value.value == 0) | (value.value == 1)).all())
    return value in (0, 1) if isinstance(value, (int, float)) else bool(value.meta.get(BIT))


def is_whole(value: Any) -> bool:
    """Whether all its values are whole numbers, as far as its making tells."""
    if isinstance(value, Constant):
        return not value.trainable and whole_tensor(value.value)
    if isinstance(value, (int, float)):
        return float(value).is_integer()
    if value.meta.get(WHOLE) or value.meta.get(BIT) or not value.meta["val"].dtype.is_floating_point:
        return True
    if called(value, *_ARITHMETIC):
        numbers = [item for item in value.args if isinstance(item, float)]
        return all(map(is_whole, (*value.all_input_nodes, *numbers)))
    return called(value, *_MOVING) and all(map(is_whole, value.all_input_nodes))


def whole_tensor(value: torch.Tensor) -> bool:
    """Whether all elements are whole; large tensors count as if they were not."""
    return value.numel() <= MOST_LOOKED_AT and not value.is_complex() and bool((value == value.round()).all())
