"""Elementwise arithmetic, comparison and logic. Broadcasting is numpy's, which is torch's."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import torch
from torch import fx

from ..op import Handler, Op, Table, as_number, dtype_of, is_call, is_float, rank
from ..recorder import Value, aten


def add(op: Op, x: Value, y: Value) -> Value:
    """The node first, so that a known number stands second."""
    return op.add(y, x) if isinstance(y, fx.Node) and not isinstance(x, fx.Node) else op.add(x, y)


def mul(op: Op, x: Value, y: Value) -> Value:
    return op.mul(y, x) if isinstance(y, fx.Node) and not isinstance(x, fx.Node) else op.mul(x, y)


def sub(op: Op, x: Value, y: Value) -> Value:
    """A known number minus a node is the negated node plus the number."""
    if isinstance(y, fx.Node) and isinstance(as_number(x, rank(y)), (int, float)):
        return op.add(op.call(aten.neg.default, y), x)
    return op.sub(x, y)


def div(op: Op, x: Value, y: Value) -> Value:
    """Integers are divided towards zero."""
    if not is_float(x):
        return op.call(aten.div.Tensor_mode, x, y, rounding_mode="trunc")
    if isinstance(y, fx.Node) and isinstance(as_number(x, rank(y)), (int, float)):
        return op.mul(op.call(aten.reciprocal.default, y), x)
    return op.binary(aten.div.Tensor, x, y)


def power(op: Op, x: Value, y: Value) -> Value:
    if not isinstance(x, fx.Node):
        return op.call(aten.pow.Tensor_Tensor, x, y)
    exponent = op.known(y, "the exponent") if op.recorder.is_known(y) else None
    if exponent is None or exponent.numel() != 1 or not (2 * float(exponent)).is_integer() or float(exponent) == 0:
        return op.call(aten.pow.Tensor_Tensor, x, y)
    return _half_power(op, x, round(2 * float(exponent)))


def _half_power(op: Op, x: Value, halves: int) -> Value:
    """x^(halves / 2) by square root, whole power and reciprocal, as far as each is needed."""
    if halves == -1:
        return op.call(aten.rsqrt.default, x)
    base, whole = (x, abs(halves) // 2) if halves % 2 == 0 else (op.call(aten.sqrt.default, x), abs(halves))
    power = base if whole == 1 else op.call(aten.pow.Tensor_Scalar, base, whole)
    return power if halves > 0 else op.call(aten.reciprocal.default, power)


def modulo(op: Op, x: Value, y: Value) -> Value:
    """`fmod` follows the sign of the dividend, the other form that of the divisor."""
    return op.call(aten.fmod.Tensor if op.flag("fmod") else aten.remainder.Tensor, x, y)


def maximum(op: Op, *inputs: Value) -> Value:
    return reduce(lambda x, y: _extreme(op, x, y, low=True), inputs)


def minimum(op: Op, *inputs: Value) -> Value:
    return reduce(lambda x, y: _extreme(op, x, y, low=False), inputs)


def _extreme(op: Op, x: Value, y: Value, *, low: bool) -> Value:
    """With a known number it is a clamp."""
    x, y = (y, x) if isinstance(y, fx.Node) and not isinstance(x, fx.Node) else (x, y)
    bound = as_number(y, rank(x))
    if isinstance(x, fx.Node) and isinstance(bound, (int, float)):
        return op.call(aten.clamp.default, x, bound if low else None, None if low else bound)
    return op.call(aten.maximum.default if low else aten.minimum.default, x, y)


def total(op: Op, *inputs: Value) -> Value:
    return reduce(lambda x, y: add(op, x, y), inputs)


def average(op: Op, *inputs: Value) -> Value:
    return op.mul(total(op, *inputs), 1.0 / len(inputs))


def unary(target: Any) -> Handler:
    return lambda op, x: op.call(target, x)


def compare(target: Any) -> Handler:
    return lambda op, x, y: op.call(target, x, y)


def is_inf(op: Op, x: Value) -> Value:
    if op.flag("detect_positive", True) and op.flag("detect_negative", True):
        return op.call(aten.isinf.default, x)
    return op.call(aten.eq.Scalar, x, math.inf if op.flag("detect_positive", True) else -math.inf)


def where(op: Op, condition: Value, x: Value, y: Value) -> Value:
    """Exporters guard a softmax with `Where(IsNaN(s), 0, s)`, for rows that are masked whole: it is s elsewhere."""
    if is_call(condition, aten.isnan.default):
        (guarded,) = condition.args  # type: ignore[union-attr]
        if guarded is y and is_call(y, aten.softmax.int):
            return y
    return op.call(aten.where.self, condition, x, y)


def clip(op: Op, x: Value, low: Value | None = None, high: Value | None = None) -> Value:
    """Bounds are attributes before opset 11, then inputs that may be left out."""
    bounds: list[float | int | None] = []
    for name, given in (("min", low), ("max", high)):
        if given is not None:
            bounds.append(op.known(given, f"the bound {name}").reshape(-1)[0].item())
        else:
            bounds.append(op.number(name) if op.has(name) else None)
    lowest, highest = (_bound(bound, dtype_of(x)) for bound in bounds)
    if lowest is None and highest is None:
        return x
    return op.call(aten.clamp.default, x, lowest, highest)


def _bound(value: float | int | None, dtype: torch.dtype) -> float | int | None:
    """None for a bound that no float32 reaches: old exporters write the largest number for `no bound`."""
    if value is None or (dtype.is_floating_point and abs(value) >= torch.finfo(torch.float32).max):
        return None
    return value


def cast(op: Op, x: Value) -> Value:
    return cast_to(op, x, op.integer("to"))


def cast_like(op: Op, x: Value, like: Value) -> Value:
    dtype = dtype_of(like)
    return x if dtype == dtype_of(x) else op.call(aten.to.dtype, x, dtype)


def cast_to(op: Op, x: Value, data_type: int) -> Value:
    """Among floats nothing happens to a node, all are float32; known numbers may become doubles."""
    if data_type in FLOATS and is_float(x) and isinstance(x, fx.Node):
        return x
    dtype = CASTS.get(data_type)
    if dtype is None:
        op.refuse(f"casting to the type number {data_type} is not read", "export the model in float32")
    if dtype == torch.float64 and isinstance(x, fx.Node):
        dtype = torch.float32
    return x if dtype_of(x) == dtype else op.call(aten.to.dtype, x, dtype)


FLOATS = {1, 10, 11, 16}  # FLOAT, FLOAT16, DOUBLE, BFLOAT16
CASTS = {
    1: torch.float32,
    10: torch.float32,
    11: torch.float64,
    16: torch.float32,
    9: torch.bool,
    **dict.fromkeys((2, 3, 4, 5, 6, 7, 12, 13), torch.int64),
}

def tan(op: Op, x: Value) -> Value:
    return op.call(aten.div.Tensor, op.call(aten.sin.default, x), op.call(aten.cos.default, x))


def hyperbolic(sign: int) -> Handler:
    """sinh: (e^x - e^-x) / 2; cosh: the sum."""

    def handler(op: Op, x: Value) -> Value:
        up, down = (op.call(aten.exp.default, item) for item in (x, op.call(aten.neg.default, x)))
        return op.mul(op.add(up, op.mul(down, sign)), 0.5)

    return handler


def area(sign: int) -> Handler:
    """asinh: ln(x + sqrt(x^2 + 1)); acosh: with - 1."""

    def handler(op: Op, x: Value) -> Value:
        root = op.call(aten.sqrt.default, op.add(op.call(aten.pow.Tensor_Scalar, x, 2), sign))
        return op.call(aten.log.default, op.add(x, root))

    return handler


def atanh(op: Op, x: Value) -> Value:
    """ln((1 + x) / (1 - x)) / 2"""
    above, below = (op.call(aten.log.default, op.add(op.mul(x, sign), 1.0)) for sign in (1, -1))
    return op.mul(op.sub(above, below), 0.5)


OPERATORS: Table = {
    ("", "Add"): add,
    ("", "Sub"): sub,
    ("", "Mul"): mul,
    ("", "Div"): div,
    ("", "Pow"): power,
    ("", "Mod"): modulo,
    ("", "Sum"): total,
    ("", "Mean"): average,
    ("", "Max"): maximum,
    ("", "Min"): minimum,
    ("", "Neg"): unary(aten.neg.default),
    ("", "Abs"): unary(aten.abs.default),
    ("", "Sqrt"): unary(aten.sqrt.default),
    ("", "Exp"): unary(aten.exp.default),
    ("", "Log"): unary(aten.log.default),
    ("", "Reciprocal"): unary(aten.reciprocal.default),
    ("", "Sin"): unary(aten.sin.default),
    ("", "Cos"): unary(aten.cos.default),
    ("", "Tan"): tan,
    ("", "Atan"): unary(aten.atan.default),
    ("", "Sinh"): hyperbolic(-1),
    ("", "Cosh"): hyperbolic(1),
    ("", "Asinh"): area(1),
    ("", "Acosh"): area(-1),
    ("", "Atanh"): atanh,
    ("", "Erf"): unary(aten.erf.default),
    ("", "Floor"): unary(aten.floor.default),
    ("", "Ceil"): unary(aten.ceil.default),
    ("", "Round"): unary(aten.round.default),
    ("", "Sign"): unary(aten.sign.default),
    ("", "IsNaN"): unary(aten.isnan.default),
    ("", "IsInf"): is_inf,
    ("", "Not"): unary(aten.logical_not.default),
    ("", "And"): compare(aten.logical_and.default),
    ("", "Or"): compare(aten.logical_or.default),
    ("", "Xor"): compare(aten.logical_xor.default),
    ("", "Equal"): compare(aten.eq.Tensor),
    ("", "Greater"): compare(aten.gt.Tensor),
    ("", "GreaterOrEqual"): compare(aten.ge.Tensor),
    ("", "Less"): compare(aten.lt.Tensor),
    ("", "LessOrEqual"): compare(aten.le.Tensor),
    ("", "Where"): where,
    ("", "Clip"): clip,
    ("", "Cast"): cast,
    ("", "CastLike"): cast_like,
}
