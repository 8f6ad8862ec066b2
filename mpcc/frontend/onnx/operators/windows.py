"""Sliding windows: strides, dilations and the padding that a convolution or pooling node asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..op import Op
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


def pad(op: Op, x: Value, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Value:
    """`x` with its last axes extended by a constant."""
    if not any(before) and not any(after):
        return x
    flat = [width for pair in zip(reversed(before), reversed(after), strict=True) for width in pair]
    return op.call(aten.constant_pad_nd.default, x, flat, value)
