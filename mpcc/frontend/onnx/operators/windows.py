"""Sliding windows: strides, dilations and the padding that a convolution or pooling node asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..op import Op, shape_of
from ..recorder import Value, aten


@dataclass(frozen=True)
class Window:
    """A window over the spatial axes."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]

    def reach(self, axis: int) -> int:
        """How many elements the window spans."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1


def window(op: Op, kernel: Sequence[int]) -> Window:
    ones = [1] * len(kernel)
    return Window(list(kernel), op.integers("strides", ones) or ones, op.integers("dilations", ones) or ones)


def explicit_pads(op: Op, at: Window, sizes: Sequence[int]) -> tuple[list[int], list[int]]:
    """The padding before and after each spatial axis, from `pads` or `auto_pad`."""
    dims, mode = len(at.kernel), op.text("auto_pad", "NOTSET")
    if mode == "VALID":
        return [0] * dims, [0] * dims
    if mode == "NOTSET":
        pads = op.integers("pads") or [0] * (2 * dims)
        return pads[:dims], pads[dims:]
    totals = [
        (-(-size // stride) - 1) * stride + at.reach(axis) - size
        for axis, (size, stride) in enumerate(zip(sizes, at.strides, strict=True))
    ]
    if min(totals) < 0 and op.node.op_type.endswith("Pool"):
        op.refuse(f"{mode} with a window smaller than its stride: implementations disagree on what it means")
    totals = [max(total, 0) for total in totals]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def gathered(op: Op, x: Value, at: Window, before: Sequence[int], after: Sequence[int]) -> tuple[Value, torch.Tensor]:
    """Every window of x [.., *windows, elements], zeros in the padding; and which elements are in x [*windows, elements]."""
    front, sizes = shape_of(x)[:2], shape_of(x)[2:]
    places, inside = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.bool)
    windows: list[int] = []
    for axis, (size, b, a) in enumerate(zip(sizes, before, after, strict=True)):
        count = (size + b + a - at.reach(axis)) // at.strides[axis] + 1
        along = torch.arange(count)[:, None] * at.strides[axis] + torch.arange(at.kernel[axis]) * at.dilations[axis] - b
        done = len(windows)
        along = along.reshape([1] * done + [count] + [1, at.kernel[axis]])
        places = (places.unsqueeze(done)[..., None] * size + along).flatten(-2)
        inside = (inside.unsqueeze(done)[..., None] & (along >= 0) & (along < size)).flatten(-2)
        windows.append(count)
    total = math.prod(sizes)
    flat = pad(op, op.reshape(x, [*front, total]), [0], [1])
    cut = op.gather(flat, len(front), torch.where(inside, places, total).reshape(-1))
    return op.reshape(cut, [*front, *inside.shape]), inside


def pad(op: Op, x: Value, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Value:
    """`x` with its last axes extended by a constant."""
    if not any(before) and not any(after):
        return x
    flat = [width for pair in zip(reversed(before), reversed(after), strict=True) for width in pair]
    return op.call(aten.constant_pad_nd.default, x, flat, value)
