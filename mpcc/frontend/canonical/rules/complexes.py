"""Complex numbers as pairs of real values: rotary embeddings written as view_as_complex(q) * cis, and their kin.

A `Complex` never enters the graph: it is taken apart again before the model ends, or the operator is refused.
"""

from __future__ import annotations

from typing import Any

import torch

from ..builder import VIEWS, Builder, operator_name
from ..values import Complex, Constant, Decline, Rule, Value, rank

aten = torch.ops.aten


def rewrite_complex(b: Builder, target: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """`target` on arguments of which at least one is complex; Decline where that has no form."""
    name = operator_name(target)
    if name in VIEWS:
        return _each(b, target, args, kwargs)
    rule = COMPLEX_RULES.get(name)
    if rule is None:
        raise Decline("complex numbers in this operator")
    return rule(b, *args, **kwargs)


def _each(b: Builder, target: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """A view of the real parts and of the imaginary parts."""

    def part(value: Any, place: int) -> Any:
        if isinstance(value, Complex):
            return value[place]
        if isinstance(value, (list, tuple)):
            return type(value)(part(item, place) for item in value)
        return value

    real, imaginary = (b.do(target, *part(args, place), **kwargs) for place in (0, 1))
    if isinstance(real, (list, tuple)):
        return [Complex(pair) for pair in zip(real, imaginary, strict=True)]
    return Complex((real, imaginary))


def pair(b: Builder, value: Any) -> Complex:
    """Any operand as a complex number; the imaginary part of a real one is the number 0."""
    if isinstance(value, Complex):
        return value
    if isinstance(value, Constant) and value.value.is_complex():
        return Complex((Constant(value.value.real.contiguous()), Constant(value.value.imag.contiguous())))
    if isinstance(value, complex):
        return Complex((value.real, value.imag))
    return Complex((value, 0.0))


def _product(b: Builder, x: Any, y: Any) -> Any:
    (a, i), (c, j) = pair(b, x), pair(b, y)
    return Complex((_less(b, _times(b, a, c), _times(b, i, j)), _plus(b, _times(b, a, j), _times(b, i, c))))


def _times(b: Builder, x: Any, y: Any) -> Any:
    if isinstance(x, float) and isinstance(y, float):
        return x * y
    if 0.0 in (x if isinstance(x, float) else 1.0, y if isinstance(y, float) else 1.0):
        return 0.0
    return b.mul(y, x) if isinstance(x, float) else b.mul(x, y)


def _plus(b: Builder, x: Any, y: Any) -> Any:
    if isinstance(x, float) and isinstance(y, float):
        return x + y
    if isinstance(x, float):
        return y if x == 0 else b.add(y, x)
    return x if isinstance(y, float) and y == 0 else b.add(x, y)


def _less(b: Builder, x: Any, y: Any) -> Any:
    return _plus(b, x, -y if isinstance(y, float) else b.do(aten.neg.default, y))


def _sum(b: Builder, x: Any, y: Any, *, alpha: float = 1) -> Any:
    (a, i), (c, j) = pair(b, x), pair(b, y)
    if alpha != 1:
        c, j = _times(b, c, float(alpha)), _times(b, j, float(alpha))
    return Complex((_plus(b, a, c), _plus(b, i, j)))


def _difference(b: Builder, x: Any, y: Any, *, alpha: float = 1) -> Any:
    return _sum(b, x, y, alpha=-alpha)


def _tensor(b: Builder, value: Any, like: Value) -> Value:
    """A part that came out as a number, spelt out in the shape of the other part."""
    made: Value = b.add(b.mul(like, 0.0), value) if isinstance(value, float) else value
    return made


def _as_real(b: Builder, x: Complex) -> Any:
    real, imaginary = x
    imaginary = _tensor(b, imaginary, real)
    return b.do(aten.stack.default, [real, imaginary], -1)


def _conjugate(b: Builder, x: Complex) -> Any:
    return Complex((x[0], _less(b, 0.0, x[1])))


def _real(b: Builder, x: Complex) -> Any:
    return x[0]


def _imaginary(b: Builder, x: Complex) -> Any:
    return _tensor(b, x[1], x[0])


def _absolute(b: Builder, x: Complex) -> Any:
    real, imaginary = x[0], _tensor(b, x[1], x[0])
    return b.do(aten.sqrt.default, b.add(b.mul(real, real), b.mul(imaginary, imaginary)))


def _same(b: Builder, x: Complex, *args: Any, **kwargs: Any) -> Any:
    return x


def view_as_complex(b: Builder, x: Value) -> Any:
    """[.., 2] -> complex [..]."""
    last = rank(x) - 1
    return Complex((b.select(x, last, 0), b.select(x, last, 1)))


def complex_(b: Builder, real: Value, imaginary: Value) -> Any:
    return Complex((real, imaginary))


def polar(b: Builder, length: Value, angle: Value) -> Any:
    parts = (b.do(target, angle) for target in (aten.cos.default, aten.sin.default))
    return Complex(b.mul(length, part) for part in parts)


COMPLEX_RULES: dict[str, Rule] = {
    "mul": _product, "add": _sum, "sub": _difference, "view_as_real": _as_real, "_conj": _conjugate, "conj": _conjugate,
    "_conj_physical": _conjugate, "conj_physical": _conjugate, "real": _real, "imag": _imaginary, "abs": _absolute,
    **dict.fromkeys(("contiguous", "clone", "alias", "detach", "resolve_conj", "resolve_neg", "lift_fresh_copy"), _same),
}  # fmt: skip
RULES: dict[Any, Rule] = {
    aten.view_as_complex.default: view_as_complex,
    aten.complex.default: complex_,
    aten.polar.default: polar,
}
