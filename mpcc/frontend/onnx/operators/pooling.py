"""Pooling over spatial axes. Everything becomes a two-dimensional pool, a mean or a maximum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from ..op import Op, Table, rank, shape_of
from ..recorder import Value, aten
from .windows import Window, explicit_pads, gathered, pad, window


def max_pool(op: Op, x: Value) -> Value:
    if op.wants(1):
        op.refuse("the indices of the maxima are not supported")
    at = window(op, op.integers("kernel_shape"))
    sizes = shape_of(x)[2:]
    before, after = explicit_pads(op, at, sizes)
    after = _reach_last_window(op, at, sizes, before, after)
    if len(sizes) not in (1, 2):
        windows, there = gathered(op, x, at, before, after)
        if not bool(there.any(-1).all()):
            op.refuse("a window that lies in the padding alone has no maximum")
        lowest = torch.where(there, 0.0, -math.inf)
        return op.call(aten.amax.default, windows if bool(there.all()) else _first_inside(op, windows, lowest), [-1], False)
    inside = before
    if before != after or any(2 * width > size for width, size in zip(before, at.kernel, strict=True)):
        x, inside = pad(op, x, before, after, -math.inf), [0] * len(sizes)

    def maximum(y: Value, flat: Window) -> Value:
        padding = [0] * (2 - len(inside)) + inside
        target = aten.max_pool2d.default
        return op.call(target, y, flat.kernel, flat.strides, padding, flat.dilations, False)

    return _as_2d(op, x, at, maximum)


def average_pool(op: Op, x: Value) -> Value:
    """The mean over the window; padding counts if `count_include_pad` says so, what ceil_mode adds never does."""
    at = window(op, op.integers("kernel_shape"))
    sizes = shape_of(x)[2:]
    before, after = explicit_pads(op, at, sizes)
    reached = _reach_last_window(op, at, sizes, before, after)
    if any(step != 1 for step in at.dilations) or len(sizes) not in (1, 2):
        return _mean_of_windows(op, x, at, before, after, reached)

    def mean(y: Value, flat: Window) -> Value:
        return op.call(aten.avg_pool2d.default, y, flat.kernel, flat.strides)

    pooled = _as_2d(op, pad(op, x, before, reached), at, mean)
    counted = torch.ones(1, 1, *sizes)
    if op.flag("count_include_pad"):
        counted = torch.ones(1, 1, *(size + b + a for size, b, a in zip(sizes, before, after, strict=True)))
        weights = pad(op, counted, [0] * len(sizes), [r - a for r, a in zip(reached, after, strict=True)])
    else:
        weights = pad(op, counted, before, reached)
    share = _as_2d(op, weights, at, mean)
    assert isinstance(share, torch.Tensor)
    return pooled if bool((share == 1).all()) else op.mul(pooled, 1.0 / share)


def _first_inside(op: Op, windows: Value, lowest: torch.Tensor) -> Value:
    """Windows whose elements in the padding are replaced by one that is not: minus infinity has no fixed point."""
    first = (lowest == 0).float().argmax(-1, keepdim=True)
    places = torch.where(lowest == 0, torch.arange(lowest.shape[-1]), first)
    count = lowest.shape[-1]
    flat = places + torch.arange(lowest[..., 0].numel()).reshape(*lowest.shape[:-1], 1) * count
    front = shape_of(windows)[:2]
    return op.reshape(op.gather(op.reshape(windows, [*front, lowest.numel()]), 2, flat.reshape(-1)), shape_of(windows))


def _mean_of_windows(
    op: Op, x: Value, at: Window, before: Sequence[int], after: Sequence[int], reached: Sequence[int]
) -> Value:
    windows, inside = gathered(op, x, at, before, reached)
    counted = inside
    if op.flag("count_include_pad"):
        sizes = shape_of(x)[2:]
        padded = torch.ones(1, 1, *(size + b + a for size, b, a in zip(sizes, before, after, strict=True)))
        none, more = [0] * len(sizes), [r - a for r, a in zip(reached, after, strict=True)]
        counted = gathered(op, padded, at, none, more)[1]
    total = op.call(aten.sum.dim_IntList, windows, [rank(windows) - 1])
    return op.mul(total, 1.0 / counted.float().sum(-1))


def lp_pool(op: Op, x: Value) -> Value:
    """(sum |x|^p)^(1/p) of every window"""
    at, power = window(op, op.integers("kernel_shape")), op.integer("p", 2)
    before, after = explicit_pads(op, at, shape_of(x)[2:])
    windows, _ = gathered(op, x, at, before, _reach_last_window(op, at, shape_of(x)[2:], before, after))
    return norm_of(op, windows, power, [rank(windows) - 1], False)


def global_lp_pool(op: Op, x: Value) -> Value:
    return norm_of(op, x, op.integer("p", 2), list(range(2, rank(x))), True)


def norm_of(op: Op, x: Value, power: int, axes: Sequence[int], keep: bool) -> Value:
    """The norm of whole order over some axes."""
    if power < 1:
        op.refuse(f"a norm of the order {power}")
    x = x if power % 2 == 0 else op.call(aten.abs.default, x)
    x = x if power == 1 else op.call(aten.pow.Tensor_Scalar, x, power)
    total = op.call(aten.sum.dim_IntList, x, list(axes), keep)
    if power <= 2:
        return total if power == 1 else op.call(aten.sqrt.default, total)
    return op.call(aten.pow.Tensor_Scalar, total, 1 / power)


def _reach_last_window(
    op: Op, at: Window, sizes: Sequence[int], before: Sequence[int], after: Sequence[int]
) -> list[int]:
    """The padding after each axis, enlarged so that with ceil_mode the last, incomplete window fits.

    A window that would start in the padding behind the input is dropped, as in torch.
    """
    if not op.flag("ceil_mode"):
        return list(after)
    reached = []
    for axis, (size, b, a) in enumerate(zip(sizes, before, after, strict=True)):
        span, stride = size + b + a - at.reach(axis), at.strides[axis]
        steps = -(-span // stride)
        if steps * stride >= size + b:
            steps -= 1
        reached.append(a + max(steps * stride - span, 0))
    return reached


def _as_2d(op: Op, x: Value, at: Window, pool: Callable[[Value, Window], Value]) -> Value:
    """Pool one or two spatial axes as two."""
    shape = shape_of(x)
    if len(shape) == 4:
        return pool(x, at)
    if len(shape) != 3:
        op.refuse(f"pooling over {len(shape) - 2} axes is not supported")
    flat = Window([1, *at.kernel], [1, *at.strides], [1, *at.dilations])
    pooled = pool(op.reshape(x, [*shape[:2], 1, shape[2]]), flat)
    return op.reshape(pooled, [*shape[:2], shape_of(pooled)[-1]])


def global_average_pool(op: Op, x: Value) -> Value:
    return op.call(aten.mean.dim, x, list(range(2, rank(x))), True)


def global_max_pool(op: Op, x: Value) -> Value:
    return op.call(aten.amax.default, x, list(range(2, rank(x))), True)


OPERATORS: Table = {
    ("", "MaxPool"): max_pool,
    ("", "AveragePool"): average_pool,
    ("", "LpPool"): lp_pool,
    ("", "GlobalLpPool"): global_lp_pool,
    ("", "GlobalAveragePool"): global_average_pool,
    ("", "GlobalMaxPool"): global_max_pool,
}
