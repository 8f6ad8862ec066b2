"""Pooling: max_pool2d, avg_pool2d and mean; adaptive pools whose cells differ in size become matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from ..builder import Builder
from ..values import Constant, Decline, Rules, Value, rank, shape

aten = torch.ops.aten


def _pair(value: Any, default: Sequence[int] = ()) -> list[int]:
    if isinstance(value, int):
        return [value, value]
    found = list(value) or list(default)
    return found * 2 if len(found) == 1 else found


def avg_pool2d(
    b: Builder, x: Value, kernel: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
    count_padding: bool = True, divisor: int | None = None,
) -> Any:  # fmt: skip
    """Whole windows stay a pool; windows of differing size (ceil mode, padding left out) become matrices."""
    kernel, padding = _pair(kernel), _pair(padding)
    stride = _pair(stride, kernel)
    if kernel == [1, 1] and stride == [1, 1] and padding == [0, 0]:
        return x
    exact = all(
        (size + 2 * p - k) % s == 0 for size, k, s, p in zip(shape(x)[-2:], kernel, stride, padding, strict=True)
    )
    if divisor is None and (count_padding or padding == [0, 0]) and (not ceil_mode or exact):
        return b.emit(aten.avg_pool2d.default, x, kernel, stride, padding)
    if divisor is not None:
        raise Decline("an average pool with its own divisor")

    def along(dim: int) -> torch.Tensor:
        line = torch.eye(shape(x)[dim - 2], dtype=torch.float64).unsqueeze(1)
        pooled = torch.nn.functional.avg_pool1d(line, kernel[dim], stride[dim], padding[dim], ceil_mode, count_padding)
        return pooled.squeeze(1).T.float()

    return separable(b, x, along(0), along(1))


def separable(b: Builder, x: Value, down: torch.Tensor, across: torch.Tensor) -> Any:
    """x [.., h, w] -> down [new h, h] x across^T [w, new w]."""
    return b.matmul(Constant(down), b.matmul(x, Constant(across.T.contiguous())))


def avg_pool1d(
    b: Builder, x: Value, kernel: Any, stride: Any = (), padding: Any = (0,), ceil_mode: bool = False,
    count_padding: bool = True,
) -> Any:  # fmt: skip
    flat = b.reshape(x, [*shape(x)[:-1], 1, shape(x)[-1]])
    stride = stride or kernel
    made = avg_pool2d(b, flat, [1, *kernel], [1, *stride], [0, *padding], ceil_mode, count_padding)
    return b.reshape(made, [*shape(x)[:-1], shape(made)[-1]])


def adaptive_avg_pool2d(b: Builder, x: Value, size: Sequence[Any]) -> Any:
    """To one cell it is a mean; to cells of equal size a pool; else a matrix on each side."""
    wanted = [old if new is None else new for old, new in zip(shape(x)[-2:], size, strict=True)]
    if wanted == [1, 1]:
        return b.mean(x, [-2, -1], True)
    if all(old % new == 0 for old, new in zip(shape(x)[-2:], wanted, strict=True)):
        kernel = [old // new for old, new in zip(shape(x)[-2:], wanted, strict=True)]
        return avg_pool2d(b, x, kernel, kernel)

    def along(dim: int) -> torch.Tensor:
        line = torch.eye(shape(x)[dim - 2], dtype=torch.float64).unsqueeze(1)
        return torch.nn.functional.adaptive_avg_pool1d(line, wanted[dim]).squeeze(1).T.float()

    return separable(b, x, along(0), along(1))


def adaptive_avg_pool1d(b: Builder, x: Value, size: Sequence[int]) -> Any:
    flat = b.reshape(x, [*shape(x)[:-1], 1, shape(x)[-1]])
    return b.reshape(adaptive_avg_pool2d(b, flat, [1, *size]), [*shape(x)[:-1], *size])


def adaptive_avg_pool3d(b: Builder, x: Value, size: Sequence[int]) -> Any:
    if list(size) == [1, 1, 1]:
        return b.mean(x, [-3, -2, -1], True)
    raise Decline("an adaptive pool over three axes to more than one cell")


def adaptive_max_pool2d(b: Builder, x: Value, size: Sequence[int]) -> Any:
    if list(size) == [1, 1]:
        return [b.do(aten.amax.default, x, [-2, -1], True), None]
    kernel = []
    for dim, new in zip((-2, -1), size, strict=True):
        cells = _cells(shape(x)[dim], new)
        if cells.tolist() != list(range(shape(x)[dim])):
            x = b.gather(x, rank(x) + dim, cells)
        kernel.append(len(cells) // new)
    return [max_pool2d(b, x, kernel, kernel), None]


def _cells(old: int, new: int) -> torch.Tensor:
    """The places of `new` cells of `old` ones after one another, each with its last place repeated until all are as large.

    Cell i is from floor(i old / new) to ceil((i + 1) old / new), as PyTorch has them.
    """
    ends = [(i * old // new, -(-(i + 1) * old // new)) for i in range(new)]
    size = max(end - start for start, end in ends)
    return torch.tensor([min(start + i, end - 1) for start, end in ends for i in range(size)])


def adaptive_max_pool1d(b: Builder, x: Value, size: Sequence[int]) -> Any:
    flat = b.reshape(x, [*shape(x)[:-1], 1, shape(x)[-1]])
    return [b.reshape(adaptive_max_pool2d(b, flat, [1, *size])[0], [*shape(x)[:-1], *size]), None]


def max_pool2d(
    b: Builder, x: Value, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    kernel = _pair(kernel)
    stride, padding, dilation = _pair(stride, kernel), _pair(padding), _pair(dilation)
    if padding == [0, 0] and dilation == [1, 1] and not ceil_mode:
        x = _bordered(b, x, kernel, stride)
    return b.emit(aten.max_pool2d.default, x, kernel, stride, padding, dilation, ceil_mode)


def _bordered(b: Builder, x: Value, kernel: list[int], stride: list[int]) -> Value:
    """What was padded with minus infinity for a maximum, padded with its border: in every window that is there already.

    Windows that lie in the padding alone would need the infinity: then x stays as it is.
    """
    if not isinstance(x, fx.Node) or x.target is not aten.constant_pad_nd.default or x.args[2:] != (-math.inf,):
        return x
    made: Any = x.args[0]
    amounts: Any = x.args[1]
    if any(amounts[4:]):
        return x
    pads = [*amounts, 0, 0][:4]
    for dim in (0, 1):
        before = pads[2 - 2 * dim]
        size, padded = shape(made)[dim - 2], shape(x)[dim - 2]
        starts = range(0, padded - kernel[dim] + 1, stride[dim])
        if any(start + kernel[dim] <= before or start >= before + size for start in starts):
            return x
        if padded > size:
            places = (torch.arange(padded) - before).clamp(0, size - 1)
            made = b.gather(made, len(shape(x)) - 2 + dim, places)
    bordered: Value = made
    return bordered


def max_pool2d_with_indices(b: Builder, *args: Any, **kwargs: Any) -> Any:
    return [max_pool2d(b, *args, **kwargs), None]


def max_pool1d(
    b: Builder,
    x: Value,
    kernel: Any,
    stride: Any = (),
    padding: Any = (0,),
    dilation: Any = (1,),
    ceil_mode: bool = False,
) -> Any:
    flat = b.reshape(x, [*shape(x)[:-1], 1, shape(x)[-1]])
    stride = stride or kernel
    made = max_pool2d(b, flat, [1, *kernel], [1, *stride], [0, *padding], [1, *dilation], ceil_mode)
    return b.reshape(made, [*shape(x)[:-1], shape(made)[-1]])


def avg_pool3d(
    b: Builder, x: Value, kernel: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
    count_padding: bool = True, divisor: int | None = None,
) -> Any:  # fmt: skip
    if divisor is not None:
        raise Decline("an average pool with its own divisor")
    return _pool3d(b, avg_pool2d, x, (kernel, _triple(stride) or kernel, padding), ceil_mode, count_padding)


def max_pool3d(
    b: Builder, x: Value, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    return _pool3d(b, max_pool2d, x, (kernel, _triple(stride) or kernel, padding, dilation), ceil_mode)


def _pool3d(b: Builder, pool2d: Any, x: Value, windows: Sequence[Any], *modes: bool) -> Any:
    """A pool over three axes: over the last two, then over the first. `windows` are kernel, stride, padding (and dilation)."""
    each = [_triple(item) for item in windows]
    *front, d, h, w = shape(x)
    flat = pool2d(b, b.reshape(x, [-1, d, h, w]), *(item[1:] for item in each), *modes)
    h, w = shape(flat)[-2:]
    alone = [1, 1, 0, 1]  # a window of one element along the axis that is done already
    down = ([item[0], only] for item, only in zip(each, alone, strict=False))
    deep = pool2d(b, b.reshape(flat, [-1, 1, d, h * w]), *down, *modes)
    return b.reshape(deep, [*front, shape(deep)[-2], h, w])


def _triple(value: Any) -> list[int]:
    if isinstance(value, int):
        return [value] * 3
    return list(value) * 3 if len(value) == 1 else list(value)


RULES: Rules = {
    aten.avg_pool1d.default: avg_pool1d,
    aten.avg_pool2d.default: avg_pool2d,
    aten.avg_pool3d.default: avg_pool3d,
    aten.max_pool3d.default: max_pool3d,
    aten.adaptive_avg_pool1d.default: adaptive_avg_pool1d,
    aten.adaptive_avg_pool2d.default: adaptive_avg_pool2d,
    aten._adaptive_avg_pool2d.default: adaptive_avg_pool2d,
    aten.adaptive_avg_pool3d.default: adaptive_avg_pool3d,
    aten.adaptive_max_pool1d.default: adaptive_max_pool1d,
    aten.adaptive_max_pool2d.default: adaptive_max_pool2d,
    aten.max_pool1d.default: max_pool1d,
    aten.max_pool2d.default: max_pool2d,
    aten.max_pool2d_with_indices.default: max_pool2d_with_indices,
}
