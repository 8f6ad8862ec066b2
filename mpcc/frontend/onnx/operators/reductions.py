"""Sums, means, extremes and norms over axes."""

from __future__ import annotations

from typing import Any

from ..op import Handler, Op, Table, rank, shape_of
from ..recorder import Value, aten


def reduction(reduce: Any) -> Handler:
    """The axes are an input or an attribute; none means all of them, or nothing if `noop_with_empty_axes`."""

    def handler(op: Op, x: Value, axes: Value | None = None) -> Any:
        found, nothing = op.axes(axes, rank(x)), op.flag("noop_with_empty_axes")
        if not found:
            if nothing:
                return x
            found = list(range(rank(x)))
        return reduce(op, x, sorted(found), op.flag("keepdims", True))

    return handler


def total(op: Op, x: Value, axes: list[int], keep: bool) -> Value:
    return op.call(aten.sum.dim_IntList, x, axes, keep)


def mean(op: Op, x: Value, axes: list[int], keep: bool) -> Value:
    return op.call(aten.mean.dim, x, axes, keep)


def greatest(op: Op, x: Value, axes: list[int], keep: bool) -> Value:
    return op.call(aten.amax.default, x, axes, keep)


def least(op: Op, x: Value, axes: list[int], keep: bool) -> Value:
    negative = op.call(aten.neg.default, x)
    return op.call(aten.neg.default, op.call(aten.amax.default, negative, axes, keep))


def product(op: Op, x: Value, axes: list[int], keep: bool) -> Value:
    """Products of halves, so that few follow each other."""
    for axis in reversed(axes):
        count = op.parts(shape_of(x)[axis], "the number of factors")
        parts = [op.call(aten.select.int, x, axis, place) for place in range(count)]
        while len(parts) > 1:
            parts = [op.mul(*pair) if len(pair) > 1 else pair[0] for pair in _pairs(parts)]
        x = op.call(aten.unsqueeze.default, parts[0], axis) if keep else parts[0]
    return x


def _pairs(items: list[Value]) -> list[list[Value]]:
    return [items[at : at + 2] for at in range(0, len(items), 2)]


def l1(op: Op, x: Value, axes: list[int], keep: bool) -> Value:
    return total(op, op.call(aten.abs.default, x), axes, keep)


def sum_square(op: Op, x: Value, axes: list[int], keep: bool) -> Value:
    return total(op, op.call(aten.pow.Tensor_Scalar, x, 2), axes, keep)


def l2(op: Op, x: Value, axes: list[int], keep: bool) -> Value:
    return op.call(aten.sqrt.default, sum_square(op, x, axes, keep))


def log_sum(op: Op, x: Value, axes: list[int], keep: bool) -> Value:
    return op.call(aten.log.default, total(op, x, axes, keep))


def log_sum_exp(op: Op, x: Value, axes: list[int], keep: bool) -> Value:
    return op.call(aten.logsumexp.default, x, axes, keep)


# The norm of zeros counts as this, which leaves them zeros. It is what torch.nn.functional.normalize takes.
SMALLEST_NORM = 1e-12


def lp_normalize(op: Op, x: Value) -> Value:
    """x over its norm along one axis"""
    axis = [op.axis(-1, rank(x))]
    power = op.integer("p", 2)
    if power not in (1, 2):
        op.refuse(f"a norm of the order {power}")
    norm = l1(op, x, axis, True) if power == 1 else l2(op, x, axis, True)
    return op.call(aten.div.Tensor, x, op.call(aten.clamp_min.default, norm, SMALLEST_NORM))


def mean_variance_normalize(op: Op, x: Value) -> Value:
    """(x - mean) / (standard deviation + 1e-9), as the operator's own definition has it"""
    axes = op.integers("axes", [0, 2, 3])
    centred = op.sub(x, mean(op, x, axes, True))
    deviation = op.call(aten.sqrt.default, mean(op, op.call(aten.pow.Tensor_Scalar, centred, 2), axes, True))
    return op.call(aten.div.Tensor, centred, op.add(deviation, 1e-9))


OPERATORS: Table = {
    ("", "ReduceSum"): reduction(total),
    ("", "ReduceMean"): reduction(mean),
    ("", "ReduceMax"): reduction(greatest),
    ("", "ReduceMin"): reduction(least),
    ("", "ReduceProd"): reduction(product),
    ("", "ReduceL1"): reduction(l1),
    ("", "ReduceL2"): reduction(l2),
    ("", "ReduceSumSquare"): reduction(sum_square),
    ("", "ReduceLogSum"): reduction(log_sum),
    ("", "ReduceLogSumExp"): reduction(log_sum_exp),
    ("", "LpNormalization"): lp_normalize,
    ("", "MeanVarianceNormalization"): mean_variance_normalize,
}
