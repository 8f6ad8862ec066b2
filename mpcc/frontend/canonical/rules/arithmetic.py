"""Elementwise arithmetic: add, sub, mul, neg, pow; division becomes multiplication by a reciprocal.

Scalars without gradient are Python numbers. `x * x` is `pow(x, 2)`: one multiplication with one opened value.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from ..builder import Builder
from ..number_kinds import is_whole
from ..values import Constant, Decline, Operand, Rules, Value, called, common_shape, rank, shape

aten = torch.ops.aten


def operand(x: Any, other: Any = None) -> Any:
    """A number for a constant that is one for all of `other`; other constants and nodes as they are."""
    if isinstance(x, Constant):
        room = rank(other) if isinstance(other, (fx.Node, Constant)) else 0
        if x.value.numel() == 1 and x.value.dim() <= room and not x.trainable:
            x = x.value.item()
    return int(x) if isinstance(x, bool) else x


def _grown(b: Builder, x: Any, other: Any) -> Any:
    """`x` as large as what an operator on both gives, for an operator that turned out to change nothing else."""
    if isinstance(other, Constant):
        return b.expand(x, common_shape(x, other))
    return x


def _is_all(x: Any, number: float) -> bool:
    if isinstance(x, Constant):
        return not x.trainable and bool((x.value == number).all())
    return isinstance(x, (int, float)) and x == number


def add(b: Builder, x: Operand, y: Operand, *, alpha: float = 1) -> Any:
    if alpha != 1:
        y = b.mul(y, alpha)
    x, y = operand(x, y), operand(y, x)
    if not isinstance(x, fx.Node):
        x, y = y, x
    if _is_all(y, 0):
        return _grown(b, x, y)
    if isinstance(y, Constant) and not y.trainable:
        y = bounded_constant(y, _SURELY_MINUS_INFINITY)
    return b.emit(aten.add.Tensor, x, y)


def sub(b: Builder, x: Operand, y: Operand, *, alpha: float = 1) -> Any:
    if alpha != 1:
        y = b.mul(y, alpha)
    x, y = operand(x, y), operand(y, x)
    if _is_all(y, 0):
        return _grown(b, x, y)
    if isinstance(y, (int, float)):
        return b.emit(aten.add.Tensor, x, -y)
    if isinstance(x, (int, float)):
        return add(b, neg(b, y), x)
    return b.emit(aten.sub.Tensor, x, y)


def rsub(b: Builder, x: Operand, y: Operand, alpha: float = 1) -> Any:
    return b.sub(y, x if alpha == 1 else b.mul(x, alpha))


def mul(b: Builder, x: Operand, y: Operand) -> Any:
    x, y = operand(x, y), operand(y, x)
    if x is y:
        return b.do(aten.pow.Tensor_Scalar, x, 2)
    if not isinstance(x, fx.Node):
        x, y = y, x
    if _is_all(y, 1):
        return _grown(b, x, y)
    if isinstance(y, (int, float)) and y <= _SURELY_MINUS_INFINITY and isinstance(x, fx.Node):
        y = MASKED_SCORE if is_whole(x) else y  # (1 - mask) * the smallest float
    if isinstance(y, (int, float)) and called(x, aten.mul.Tensor) and isinstance(x.args[1], (int, float)):
        return b.mul(_first(x), x.args[1] * y)
    return b.emit(aten.mul.Tensor, x, y)


def div(b: Builder, x: Operand, y: Operand, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode is not None:
        raise Decline("rounds a secret value")
    y = operand(y, x)
    if isinstance(y, (int, float)):
        return mul(b, x, 1 / y)
    if isinstance(x, (int, float)) or isinstance(operand(x), (int, float)):
        return b.mul(b.do(aten.reciprocal.default, y), operand(x))
    return mul(b, x, b.do(aten.reciprocal.default, y))


def _first(x: fx.Node) -> fx.Node:
    source = x.args[0]
    assert isinstance(source, fx.Node)
    return source


def neg(b: Builder, x: Value) -> Any:
    return b.emit(aten.neg.default, x)


def reciprocal(b: Builder, x: Value) -> Any:
    if called(x, aten.sqrt.default):
        return b.emit(aten.rsqrt.default, _first(x))
    return b.emit(aten.reciprocal.default, x)


def power(b: Builder, x: Value, exponent: Any) -> Any:
    exponent = operand(exponent)
    if isinstance(exponent, (fx.Node, Constant)):
        return b.do(aten.exp.default, b.mul(b.do(aten.log.default, x), exponent))
    if exponent == 1:
        return x
    if exponent in (0.5, -0.5):
        return b.do(aten.sqrt.default if exponent > 0 else aten.rsqrt.default, x)
    if exponent == int(exponent):
        whole = int(exponent)
        if whole >= 2:
            return b.emit(aten.pow.Tensor_Scalar, x, whole)
        if whole < 0:
            return b.do(aten.reciprocal.default, power(b, x, -whole))
        return Constant(torch.ones(shape(x)))
    return b.do(aten.exp.default, b.mul(b.do(aten.log.default, x), exponent))  # a power that is no number below zero either


def power_of(b: Builder, base: float, exponent: Value) -> Any:
    return b.do(aten.exp.default, b.mul(exponent, math.log(base)))


def square(b: Builder, x: Value) -> Any:
    return power(b, x, 2)


def exp2(b: Builder, x: Value) -> Any:
    return power_of(b, 2.0, x)


def expm1(b: Builder, x: Value) -> Any:
    return b.add(b.do(aten.exp.default, x), -1)


def addcmul(b: Builder, x: Value, first: Value, second: Value, *, value: float = 1) -> Any:
    return b.add(x, b.mul(b.mul(first, second), value))


def lerp(b: Builder, start: Value, end: Value, weight: Operand) -> Any:
    return b.add(start, b.mul(b.sub(end, start), weight))


# What masks mean by minus infinity: a score so much smaller than others that its exponential is nothing, and yet a
# number that fixed point and approximations can hold. It is the constant of Swin Transformer's own masks.
MASKED_SCORE = -100.0
MINUS_INFINITY = -1e4  # in what is known to be a mask
_SURELY_MINUS_INFINITY = -6e4  # in any sum: the smallest floats of every width, -1e9 and the like


def bounded(value: torch.Tensor, least: float = MINUS_INFINITY) -> torch.Tensor:
    """`value` with everything that means minus infinity replaced by `MASKED_SCORE`."""
    return torch.where(value <= least, MASKED_SCORE, value.float())


def bounded_constant(constant: Constant, least: float = MINUS_INFINITY) -> Constant:
    """The same constant if nothing in it means minus infinity."""
    value = bounded(constant.value, least)
    return constant if torch.equal(value, constant.value.float()) else constant.became(value)


def identity(b: Builder, x: Value, *args: Any, **kwargs: Any) -> Any:
    return x


def never(b: Builder, x: Value) -> Any:
    """isnan, isinf of an input's value: fixed point has neither."""
    return Constant(torch.zeros(shape(x), dtype=torch.bool), assumed=True)


def always(b: Builder, x: Value) -> Any:
    return Constant(torch.ones(shape(x), dtype=torch.bool), assumed=True)


def _by_name(rule: Any, *names: str) -> Rules:
    return {getattr(getattr(aten, p), o): rule for name in names for p, o in [name.split(".")]}


RULES: Rules = {
    **_by_name(add, "add.Tensor", "add.Scalar"),
    **_by_name(sub, "sub.Tensor", "sub.Scalar", "subtract.Tensor"),
    **_by_name(rsub, "rsub.Tensor", "rsub.Scalar"),
    **_by_name(mul, "mul.Tensor", "mul.Scalar", "multiply.Tensor"),
    **_by_name(div, "div.Tensor", "div.Scalar", "div.Tensor_mode", "true_divide.Tensor", "divide.Tensor"),
    **_by_name(neg, "neg.default", "negative.default"),
    **_by_name(reciprocal, "reciprocal.default"),
    **_by_name(power, "pow.Tensor_Scalar", "pow.Tensor_Tensor"),
    **_by_name(power_of, "pow.Scalar"),
    **_by_name(square, "square.default"),
    **_by_name(exp2, "exp2.default"),
    **_by_name(expm1, "expm1.default"),
    **_by_name(addcmul, "addcmul.default"),
    **_by_name(lerp, "lerp.Scalar", "lerp.Tensor"),
    **_by_name(
        identity,
        *("contiguous.default", "clone.default", "alias.default", "detach.default", "detach_.default"),
        *("dropout.default", "dropout_.default", "feature_dropout.default", "alpha_dropout.default"),
        *("lift_fresh.default", "lift_fresh_copy.default", "nan_to_num.default", "real.default", "positive.default"),
    ),
    **_by_name(never, "isnan.default", "isinf.default"),
    **_by_name(always, "isfinite.default"),
}
