"""Elementwise non-linear functions: those of the table keep their name, others are written in them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from mpcc.errors import UnsupportedOperator
from mpcc.ir.nn import attribute

from ..builder import Builder
from ..values import Constant, Decline, Operand, Rules, Value, called
from .arithmetic import MASKED_SCORE, operand

aten = torch.ops.aten


def softmax(b: Builder, x: Value, dim: int, *rest: Any, **options: Any) -> Any:
    rank = len(x.value.shape if isinstance(x, Constant) else x.meta["val"].shape)
    return b.emit(aten.softmax.int, x, dim - rank if dim >= 0 else dim)


def _added_mask(b: Builder, x: Value) -> torch.Tensor | None:
    """The constant that x is the sum of something and of; None if there is none."""
    masks = [item for item in x.args if isinstance(item, fx.Node) and item.op == "get_attr"] if called(x, aten.add.Tensor) else []
    return attribute(b.root, str(masks[0].target)) if len(masks) == 1 else None


def safe_softmax(b: Builder, x: Value, dim: int, *rest: Any, **options: Any) -> Any:
    """softmax, but 0 in rows that are masked whole: which ones is known where the mask is a constant that was added."""
    mask = _added_mask(b, x)
    if mask is None:
        raise Decline("a softmax that gives 0 for rows of minus infinity, of scores without a constant mask")
    seen = (mask > MASKED_SCORE).any(dim, keepdim=True)
    made = softmax(b, x, dim)
    return made if bool(seen.all()) else b.mul(made, Constant(seen.float()))


def log_softmax(b: Builder, x: Value, dim: int, *rest: Any, **options: Any) -> Any:
    mask = _added_mask(b, x)
    if mask is not None and bool((mask <= MASKED_SCORE).any()):
        raise UnsupportedOperator("the logarithm of a masked softmax is minus infinity, which fixed point has not")
    return b.do(aten.log.default, softmax(b, x, dim))


def clamp(b: Builder, x: Value, low: Any = None, high: Any = None, **limits: Any) -> Any:
    """Between two numbers; from 0 up it is relu."""
    low, high = operand(limits.get("min", low)), operand(limits.get("max", high))
    if any(isinstance(limit, (fx.Node, Constant)) for limit in (low, high)):
        x = x if low is None else b.emit(aten.maximum.default, x, low)
        return x if high is None else b.emit(aten.minimum.default, x, high)
    low, high = (None if limit is None or math.isinf(limit) else float(limit) for limit in (low, high))
    if low == 0 and high is None:
        return b.do(aten.relu.default, x)
    return x if low is None and high is None else b.emit(aten.clamp.default, x, low, high)


def clamp_max(b: Builder, x: Value, high: Any) -> Any:
    return clamp(b, x, None, high)


def maximum(b: Builder, x: Operand, y: Operand) -> Any:
    return _extreme(b, aten.maximum.default, x, y, "min")


def minimum(b: Builder, x: Operand, y: Operand) -> Any:
    return _extreme(b, aten.minimum.default, x, y, "max")


def _extreme(b: Builder, target: Any, x: Any, y: Any, limit: str) -> Any:
    x, y = operand(x), operand(y)
    if isinstance(x, (int, float)):
        x, y = y, x
    if isinstance(y, (int, float)):
        return clamp(b, x, **{limit: y})
    return b.emit(target, x, y)


def relu6(b: Builder, x: Value) -> Any:
    return clamp(b, x, 0, 6)


def hardtanh(b: Builder, x: Value, low: float = -1, high: float = 1) -> Any:
    return clamp(b, x, low, high)


def leaky_relu(b: Builder, x: Value, slope: float = 0.01) -> Any:
    return b.emit(aten.leaky_relu.default, x, slope)


def rrelu(b: Builder, x: Value, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, *rest: Any) -> Any:
    """In evaluation the slope is the middle of those that it is drawn from in training."""
    if training:
        raise Decline("a slope that is drawn anew in every call")
    return leaky_relu(b, x, (lower + upper) / 2)


def prelu(b: Builder, x: Value, slope: Value) -> Any:
    """relu(x) - slope * relu(-x), the slope along axis 1."""
    size = slope.value.numel() if isinstance(slope, Constant) else math.prod(slope.meta["val"].shape)
    rank = len(x.value.shape if isinstance(x, Constant) else x.meta["val"].shape)
    along = b.reshape(slope, [size, *[1] * (rank - 2)] if rank > 1 else [size] * rank)
    below = b.do(aten.relu.default, b.do(aten.neg.default, x))
    return b.sub(b.do(aten.relu.default, x), b.mul(below, along))


def elu(b: Builder, x: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Any:
    if input_scale != 1:
        raise Decline("elu with an input scale")
    return b.mul(b.emit(aten.elu.default, x, alpha), scale)


def selu(b: Builder, x: Value) -> Any:
    return elu(b, x, 1.6732632423543772, 1.0507009873554805)


def celu(b: Builder, x: Value, alpha: float = 1) -> Any:
    return b.mul(elu(b, b.mul(x, 1 / alpha)), alpha) if alpha != 1 else elu(b, x)


def glu(b: Builder, x: Value, dim: int = -1) -> Any:
    value, gate = b.do(aten.chunk.default, x, 2, dim)
    return b.mul(value, b.do(aten.sigmoid.default, gate))


def log_sigmoid(b: Builder, x: Value) -> Any:
    return b.do(aten.neg.default, b.do(aten.softplus.default, b.do(aten.neg.default, x)))


def softsign(b: Builder, x: Value) -> Any:
    return b.mul(x, b.do(aten.reciprocal.default, b.add(b.do(aten.abs.default, x), 1)))


def log1p(b: Builder, x: Value) -> Any:
    return b.do(aten.log.default, b.add(x, 1))


RULES: Rules = {
    aten.softmax.int: softmax,
    aten._softmax.default: softmax,
    aten._safe_softmax.default: safe_softmax,
    aten.log_softmax.int: log_softmax,
    aten.clamp.default: clamp,
    aten.clamp.Tensor: clamp,
    aten.clip.default: clamp,
    aten.clip.Tensor: clamp,
    aten.clamp_min.default: clamp,
    aten.clamp_min.Tensor: clamp,
    aten.clamp_max.default: clamp_max,
    aten.clamp_max.Tensor: clamp_max,
    aten.maximum.default: maximum,
    aten.max.other: maximum,
    aten.minimum.default: minimum,
    aten.min.other: minimum,
    aten.relu6.default: relu6,
    aten.hardtanh.default: hardtanh,
    aten.leaky_relu.default: leaky_relu,
    aten.rrelu.default: rrelu,
    aten.prelu.default: prelu,
    aten._prelu_kernel.default: prelu,
    aten.elu.default: elu,
    aten.selu.default: selu,
    aten.celu.default: celu,
    aten.glu.default: glu,
    aten.log_sigmoid.default: log_sigmoid,
    aten.log1p.default: log1p,
}
