"""Comparisons and logic of secret values: a truth value is the number 0 or 1, made by `mpcc::step`.

    x > y           step(x - y, strict)            where(c, x, y)    y + c (x - y)
    x == y          [x >= y] [x <= y]              a and b           a b
    not a           1 - a                          a or b            a + b - a b

Numbers in fixed point are equal where they differ by less than `EQUAL`; whole numbers are compared half a unit off, which
no rounding reaches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import fx

from mpcc.ir.answers import MARK
from mpcc.ir.step import STEP

from ..builder import Builder
from ..number_kinds import MASKED, is_bit, is_whole
from ..values import Constant, Decline, Operand, Rules, Value, axis, common_shape, dtype, shape
from .arithmetic import MASKED_SCORE, MINUS_INFINITY, bounded, bounded_constant, operand
from .reductions import Dims, axes

aten = torch.ops.aten
EQUAL = 2.0**-12
"""Two units of a value at 13 fraction bits, which is what an operand of a product keeps: two roundings of equal numbers."""
MOST_ORDERED = 4096
"""Elements of a row whose largest is looked for: each is compared twice."""
MOST_RANKED = 2048
"""Elements of a row that is put in order: each is compared with all others."""


def above(b: Builder, x: Operand, y: Operand, *, strict: bool) -> Any:
    """[x > y] or [x >= y]."""
    difference = _gap(b, x, y)
    if is_whole(x) and is_whole(y):
        difference = b.add(difference, -0.5 if strict else 0.5)
    return b.emit(STEP, difference, *([True] if strict else []))


def compared(strict: bool, turned: bool) -> Callable[..., Any]:
    def rule(b: Builder, x: Operand, y: Operand) -> Any:
        x, y = _bound(b, x, y), _bound(b, y, x)
        return above(b, y, x, strict=strict) if turned else above(b, x, y, strict=strict)

    return rule


def _bound(b: Builder, x: Operand, other: Operand) -> Operand:
    """Infinity is beyond every number, so what is compared with it is known: too seldom meant to be worth a rule."""
    x = operand(x, other)
    if isinstance(x, (int, float)) and not math.isfinite(x):
        raise Decline("compares a secret value with infinity")
    return x


def equal(b: Builder, x: Operand, y: Operand) -> Any:
    x, y = operand(x, y), operand(y, x)
    for one, other in ((x, y), (y, x)):
        if isinstance(one, fx.Node) and is_bit(one) and isinstance(other, (int, float)) and other in (0, 1):
            return one if other == 1 else inverse(b, one)
    _bound(b, x, y), _bound(b, y, x)
    if is_whole(x) and is_whole(y):
        return b.mul(above(b, x, y, strict=False), above(b, y, x, strict=False))
    difference = _gap(b, x, y)
    sides = (difference, b.do(aten.neg.default, difference))
    return b.mul(*(b.emit(STEP, b.add(side, EQUAL)) for side in sides))


def unequal(b: Builder, x: Operand, y: Operand) -> Any:
    return inverse(b, equal(b, x, y))


def inverse(b: Builder, bit: Value) -> Any:
    return b.add(b.do(aten.neg.default, bit), 1)


def truth(b: Builder, x: Any) -> Any:
    """The truth value of a number: whether it is not 0."""
    if isinstance(x, Constant):
        return x.became(x.value.bool().float())
    return x if is_bit(x) else unequal(b, x, 0)


def logical_not(b: Builder, x: Value) -> Any:
    return inverse(b, x) if is_bit(x) else equal(b, x, 0)


def logical_and(b: Builder, x: Value, y: Value) -> Any:
    return b.mul(truth(b, x), truth(b, y))


def logical_or(b: Builder, x: Value, y: Value) -> Any:
    x, y = truth(b, x), truth(b, y)
    return b.sub(b.add(x, y), b.mul(x, y))


def logical_xor(b: Builder, x: Value, y: Value) -> Any:
    x, y = truth(b, x), truth(b, y)
    return b.sub(b.add(x, y), b.mul(b.mul(x, y), 2))


def on_bits(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Of a bitwise operator, which on truth values is the logical one."""

    def bitwise(b: Builder, *values: Any) -> Any:
        if not all(is_bit(value) for value in values):
            raise Decline("works on the bits of secret whole numbers")
        return rule(b, *values)

    return bitwise


def chosen(b: Builder, condition: fx.Node, x: Operand, y: Operand) -> Any:
    """x where the secret condition holds, y elsewhere. Both are computed everywhere, so that both have to be numbers there."""
    for branch in (x, y):
        guarded = undefined_operator(branch, condition)
        if guarded is not None:
            raise Decline(f"guards {guarded} by a secret condition on what it is computed of")
    bit = truth(b, condition)
    sizes = common_shape(condition, x, y)
    if isinstance(y, (int, float)) and y == 0:
        made = b.mul(bit, x)
    elif isinstance(x, (int, float)) and x == 0:
        made = b.sub(y, b.mul(bit, y))
    else:
        made = b.add(b.mul(bit, _gap(b, x, y)), y)
    return b.expand(made, sizes)


def undefined_operator(branch: Any, condition: fx.Node) -> str | None:
    """An operator in the making of a branch that is not defined everywhere, of something that the condition looks at too."""
    if not isinstance(branch, fx.Node):
        return None
    looked_at = _making(condition, STOPS)
    for node in _making(branch, STOPS):
        if node.target in PARTIAL and node.args[0] in looked_at:
            return str(node.target)
    return None


def _making(node: fx.Node, stops: Collection[Any]) -> set[fx.Node]:
    """The node and what it was computed of, back to operators that mix elements."""
    ahead, seen = [node], set[fx.Node]()
    while ahead:
        one = ahead.pop()
        if one not in seen:
            seen.add(one)
            ahead += [] if one.target in stops else one.all_input_nodes
    return seen


PARTIAL = {aten.log.default, aten.sqrt.default, aten.rsqrt.default, aten.reciprocal.default}
STOPS = {aten.linear.default, aten.matmul.default, aten.convolution.default, aten.softmax.int}


def _gap(b: Builder, x: Operand, y: Operand) -> Any:
    if not isinstance(x, (int, float)):
        return b.sub(x, y)
    return x - y if isinstance(y, (int, float)) else b.add(b.do(aten.neg.default, y), x)


def any_(b: Builder, x: Value, dims: Dims = None, keepdim: bool = False) -> Any:
    over = axes(x, dims)
    return above(b, b.sum(truth(b, x), over, keepdim), 1, strict=False) if over else truth(b, x)


def all_(b: Builder, x: Value, dims: Dims = None, keepdim: bool = False) -> Any:
    over = axes(x, dims)
    count = math.prod(shape(x)[dim] for dim in over)
    return above(b, b.sum(truth(b, x), over, keepdim), count, strict=False) if over else truth(b, x)


def count_nonzero(b: Builder, x: Value, dims: Dims = None) -> Any:
    return b.sum(truth(b, x), axes(x, dims))


def sign(b: Builder, x: Value) -> Any:
    return b.sub(b.emit(STEP, x, True), b.emit(STEP, b.do(aten.neg.default, x), True))


def heaviside(b: Builder, x: Value, values: Any) -> Any:
    """`values` at zero."""
    strict, loose = b.emit(STEP, x, True), b.emit(STEP, x)
    return b.add(strict, b.mul(b.sub(loose, strict), values))


def threshold(b: Builder, x: Value, limit: float, value: float) -> Any:
    return chosen(b, above(b, x, limit, strict=True), x, value)


def hard_shrink(b: Builder, x: Value, limit: float = 0.5) -> Any:
    outside = b.add(above(b, x, limit, strict=True), above(b, b.do(aten.neg.default, x), limit, strict=True))
    return b.mul(outside, x)


def soft_shrink(b: Builder, x: Value, limit: float = 0.5) -> Any:
    return b.sub(x, b.do(aten.clamp.default, x, -limit, limit))


def first_largest(b: Builder, x: Value, dim: int) -> Any:
    """1 at the first of the largest values along a dimension, else 0. Values within `EQUAL` of the largest are as large."""
    at = axis(dim, x)
    size = shape(x)[at]
    if size > MOST_ORDERED:
        raise Decline(f"looks for the largest of {size} secret values, more than {MOST_ORDERED}")
    behind = b.sub(x, b.do(aten.amax.default, x, [at], True))
    hits = b.emit(STEP, b.add(behind, EQUAL))
    earlier = b.swap(b.matmul(b.swap(hits, at, -1), Constant(torch.ones(size, size).triu(1))), at, -1)
    return b.mul(hits, b.emit(STEP, b.add(b.do(aten.neg.default, earlier), 0.5)))


def argmax(b: Builder, x: Value, dim: int | None = None, keepdim: bool = False) -> Any:
    """The place of the largest as a number: the one-hot rows times 0, 1, 2 ..."""
    if dim is None:
        flat = argmax(b, b.reshape(x, [-1]), 0)
        return b.reshape(flat, [1] * len(shape(x))) if keepdim else flat
    at = axis(dim, x)
    numbers = torch.arange(float(shape(x)[at])).reshape(-1, *[1] * (len(shape(x)) - 1 - at))
    made = b.sum(b.mul(first_largest(b, x, at), Constant(numbers)), [at], keepdim)
    made.meta[MARK] = ("argmax", (at, keepdim), b.node(x).name)
    return made


def largest_of(b: Builder, places: fx.Node) -> tuple[fx.Node, int] | None:
    """(what `places` is the argmax of, along which axis); None where it is something else."""
    name, arguments, source = places.meta.get(MARK, ("", (), ""))
    found = next((node for node in places.graph.nodes if node.name == source), None)
    return None if name != "argmax" or found is None else (found, arguments[0])


def top_k(b: Builder, x: Value, k: int, dim: int = -1, largest: bool = True, in_order: bool = True) -> Any:
    """[values, places] of the k largest along a dimension, the largest first. An element's rank is how many precede it."""
    at, size = axis(dim, x), shape(x)[axis(dim, x)] if shape(x) else 1
    if size > MOST_RANKED:
        raise Decline(f"puts {size} secret values in order, more than {MOST_RANKED}")
    row = b.swap(x, at, -1)
    column, line = b.reshape(row, [*shape(row), 1]), b.reshape(row, [*shape(row)[:-1], 1, size])
    ahead = b.sub(line, column) if largest else b.sub(column, line)  # of [.., element, other]
    order = torch.arange(size)
    first = torch.where(order[None] < order[:, None], EQUAL, -EQUAL)  # of two equals, the one in front precedes
    precedes = b.mul(b.emit(STEP, b.add(ahead, Constant(first))), Constant(1 - torch.eye(size)))
    rank = b.reshape(b.sum(precedes, [-1], False), [*shape(row), 1])
    places = Constant(torch.arange(float(k)))
    within = (b.emit(STEP, b.add(side, 0.5)) for side in (b.sub(rank, places), b.add(b.do(aten.neg.default, rank), places)))
    hot = b.mul(*within)  # [.., element, place]
    found = []
    for name, items in (("largest", column), ("places", Constant(torch.arange(float(size)).reshape(-1, 1)))):
        made = b.swap(b.sum(b.mul(hot, items), [-2], False), at, -1)
        made.meta[MARK] = (name, (k, at, largest), b.node(x).name)
        found.append(made)
    return found


def sort(b: Builder, x: Value, dim: int = -1, descending: bool = False, stable: bool | None = None) -> Any:
    return top_k(b, x, shape(x)[axis(dim, x)], dim, descending)


def argsort(b: Builder, x: Value, dim: int = -1, descending: bool = False, stable: bool | None = None) -> Any:
    return sort(b, x, dim, descending)[1]


def argmin(b: Builder, x: Value, dim: int | None = None, keepdim: bool = False) -> Any:
    return argmax(b, b.do(aten.neg.default, x), dim, keepdim)


def where(b: Builder, condition: Any, x: Operand, y: Operand) -> Any:
    """x c + y (1 - c), with c a constant of 0 and 1, or a secret."""
    x, y = operand(x, y), operand(y, x)
    if isinstance(condition, fx.Node):
        made = chosen(b, condition, _bounded(x), _bounded(y))
        if any(_is_infinite(item) for item in (x, y)):
            made.meta[MASKED] = True
        return made
    taken = condition.value.bool()
    if taken.all() or not taken.any():
        picked = x if taken.all() else y
        sizes = common_shape(condition, x, y)
        if isinstance(picked, (int, float)):
            return Constant(torch.full(sizes, float(picked)))
        return b.expand(picked, sizes)
    return b.add(_masked(b, x, taken), _masked(b, y, ~taken))


def _bounded(x: Operand) -> Operand:
    if isinstance(x, (int, float)):
        return MASKED_SCORE if x <= MINUS_INFINITY else x
    return bounded_constant(x) if isinstance(x, Constant) and not x.trainable else x


def _masked(b: Builder, x: Operand, keep: torch.Tensor) -> Any:
    if isinstance(x, (int, float)):
        return Constant(keep.float() * bounded(torch.tensor(x)))
    if isinstance(x, Constant) and not x.trainable:
        return Constant(torch.where(keep, bounded(x.value), 0.0))
    return b.mul(x, Constant(keep.float()))


def _is_infinite(x: Operand) -> bool:
    """Whether there is minus infinity in it, for which `MASKED_SCORE` stands."""
    if isinstance(x, (int, float)):
        return x <= MINUS_INFINITY
    return isinstance(x, Constant) and not x.trainable and bool((x.value <= MINUS_INFINITY).any())


def masked_fill(b: Builder, x: Value, mask: Any, value: Any) -> Any:
    return where(b, mask, value, x)


def cast(b: Builder, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Between float types the value stays: everything is computed in one type. Others lose information.

    A truth value is whether a number is not 0; whole numbers stay what they are.
    """
    wanted = [item for item in (*args, *kwargs.values()) if isinstance(item, torch.dtype)]
    if wanted and wanted[0] == torch.bool:
        return truth(b, x)
    if wanted and not wanted[0].is_floating_point and is_whole(x):
        return x
    if wanted and not (wanted[0].is_floating_point and dtype(x).is_floating_point) and wanted[0] != dtype(x):
        raise Decline(f"turns a secret {dtype(x)} into {wanted[0]}")
    return x


def _by_name(rule: Any, *names: str) -> Rules:
    return {getattr(getattr(aten, p), o): rule for name in names for p, o in [name.split(".")]}


RULES: Rules = {
    **_by_name(where, "where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar"),
    **_by_name(masked_fill, "masked_fill.Scalar", "masked_fill.Tensor"),
    **_by_name(cast, "to.dtype", "to.dtype_layout", "to.device", "to.other", "_to_copy.default", "type_as.default"),
    **_by_name(compared(True, False), "gt.Tensor", "gt.Scalar", "greater.Tensor", "greater.Scalar"),
    **_by_name(compared(False, False), "ge.Tensor", "ge.Scalar", "greater_equal.Tensor", "greater_equal.Scalar"),
    **_by_name(compared(True, True), "lt.Tensor", "lt.Scalar", "less.Tensor", "less.Scalar"),
    **_by_name(compared(False, True), "le.Tensor", "le.Scalar", "less_equal.Tensor", "less_equal.Scalar"),
    **_by_name(equal, "eq.Tensor", "eq.Scalar"),
    **_by_name(unequal, "ne.Tensor", "ne.Scalar", "not_equal.Tensor", "not_equal.Scalar"),
    **_by_name(logical_not, "logical_not.default"),
    **_by_name(logical_and, "logical_and.default"),
    **_by_name(logical_or, "logical_or.default"),
    **_by_name(logical_xor, "logical_xor.default"),
    **_by_name(on_bits(inverse), "bitwise_not.default"),
    **_by_name(on_bits(logical_and), "bitwise_and.Tensor", "__and__.Tensor"),
    **_by_name(on_bits(logical_or), "bitwise_or.Tensor", "__or__.Tensor"),
    **_by_name(on_bits(logical_xor), "bitwise_xor.Tensor", "__xor__.Tensor"),
    **_by_name(any_, "any.default", "any.dim", "any.dims"),
    **_by_name(all_, "all.default", "all.dim", "all.dims"),
    **_by_name(count_nonzero, "count_nonzero.default", "count_nonzero.dim_IntList"),
    **_by_name(sign, "sign.default", "sgn.default"),
    **_by_name(heaviside, "heaviside.default"),
    **_by_name(threshold, "threshold.default"),
    **_by_name(hard_shrink, "hardshrink.default"),
    **_by_name(soft_shrink, "softshrink.default"),
    **_by_name(argmax, "argmax.default"),
    **_by_name(argmin, "argmin.default"),
    **_by_name(top_k, "topk.default"),
    **_by_name(sort, "sort.default"),
    **_by_name(argsort, "argsort.default"),
    **{aten.sort.stable: lambda b, x, *, stable=None, dim=-1, descending=False: sort(b, x, dim, descending)},
}
