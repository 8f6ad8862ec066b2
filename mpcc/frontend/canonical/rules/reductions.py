"""Reductions: sum, mean and amax over listed axes; variance, norms and cumulative sums are made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ..builder import Builder
from ..values import Constant, Decline, Rules, Value, axis, rank, shape

aten = torch.ops.aten

Dims = int | Sequence[int] | None


def axes(x: Value, dims: Dims) -> list[int]:
    """The axes that `dims` means, counted from the front; all for None and []."""
    if dims is None or (not isinstance(dims, int) and not dims):
        return list(range(rank(x)))
    return sorted(axis(dim, x) for dim in ([dims] if isinstance(dims, int) else dims))


def sum_(b: Builder, x: Value, dims: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    return b.emit(aten.sum.dim_IntList, x, axes(x, dims), keepdim)


def mean(b: Builder, x: Value, dims: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    return b.emit(aten.mean.dim, x, axes(x, dims), keepdim)


def whole_sum(b: Builder, x: Value, *, dtype: Any = None) -> Any:
    return sum_(b, x)


def whole_mean(b: Builder, x: Value, *, dtype: Any = None) -> Any:
    return mean(b, x)


def amax(b: Builder, x: Value, dims: Dims = None, keepdim: bool = False) -> Any:
    return b.emit(aten.amax.default, x, axes(x, dims), keepdim)


def amin(b: Builder, x: Value, dims: Dims = None, keepdim: bool = False) -> Any:
    return b.do(aten.neg.default, amax(b, b.do(aten.neg.default, x), dims, keepdim))


def max_dim(b: Builder, x: Value, dim: int, keepdim: bool = False) -> Any:
    """Values and places; what nobody reads is dropped."""
    return [amax(b, x, dim, keepdim), b.do(aten.argmax.default, x, dim, keepdim)]


def min_dim(b: Builder, x: Value, dim: int, keepdim: bool = False) -> Any:
    return [amin(b, x, dim, keepdim), b.do(aten.argmin.default, x, dim, keepdim)]


def variance(b: Builder, x: Value, dims: Any = None, correction: Any = 1, keepdim: bool = False, **rest: Any) -> Any:
    """mean((x - mean x)^2), times n / (n - correction)."""
    if isinstance(dims, bool):  # aten.var.default(x, unbiased)
        dims, correction = None, int(dims)
    correction = int(rest.get("correction", rest.get("unbiased", correction)) or 0)
    keepdim = bool(rest.get("keepdim", keepdim))
    over = axes(x, dims)
    count = math.prod(shape(x)[dim] for dim in over)
    centred = b.sub(x, b.mean(x, over, True))
    biased = b.mean(b.do(aten.pow.Tensor_Scalar, centred, 2), over, keepdim)
    return b.mul(biased, count / (count - correction)) if correction else biased


def deviation(b: Builder, x: Value, *args: Any, **kwargs: Any) -> Any:
    return b.do(aten.sqrt.default, variance(b, x, *args, **kwargs))


def variance_and_mean(b: Builder, x: Value, dims: Any = None, *args: Any, **kwargs: Any) -> Any:
    spread = variance(b, x, dims, *args, **kwargs)
    return [spread, b.mean(x, axes(x, dims), bool(kwargs.get("keepdim", len(args) > 1 and args[1])))]


def vector_norm(
    b: Builder, x: Value, order: Any = 2, dims: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    if order is None or order == 2:
        return b.do(aten.sqrt.default, b.sum(b.do(aten.pow.Tensor_Scalar, x, 2), axes(x, dims), keepdim))
    if order == 1:
        return b.sum(b.do(aten.abs.default, x), axes(x, dims), keepdim)
    if order == math.inf:
        return amax(b, b.do(aten.abs.default, x), dims, keepdim)
    raise Decline(f"the norm of order {order}")


def logsumexp(b: Builder, x: Value, dims: Dims, keepdim: bool = False) -> Any:
    return b.do(aten.log.default, b.sum(b.do(aten.exp.default, x), axes(x, dims), keepdim))


def cumsum(b: Builder, x: Value, dim: int, *, dtype: Any = None) -> Any:
    """A product with a triangular matrix of ones."""
    at = axis(dim, x)
    ones = torch.ones(shape(x)[at], shape(x)[at]).triu()
    return b.swap(b.matmul(b.swap(x, at, -1), Constant(ones)), at, -1)


def cdist(b: Builder, x: Value, y: Value, p: float = 2.0, mode: int | None = None) -> Any:
    """[.., n, k], [.., m, k] -> [.., n, m], each row of one from each of the other: sums of what is never below 0."""
    if p not in (1.0, 2.0):
        raise Decline(f"distances of the norm {p:g}")
    apart = b.sub(b.do(aten.unsqueeze.default, x, -2), b.do(aten.unsqueeze.default, y, -3))
    return vector_norm(b, apart, p, [-1])


RULES: Rules = {
    aten.sum.default: whole_sum,
    aten.sum.dim_IntList: sum_,
    aten.mean.default: whole_mean,
    aten.mean.dim: mean,
    aten.amax.default: amax,
    aten.max.default: amax,
    aten.amin.default: amin,
    aten.min.default: amin,
    aten.max.dim: max_dim,
    aten.min.dim: min_dim,
    **dict.fromkeys((aten.var.default, aten.var.dim, aten.var.correction), variance),
    **dict.fromkeys((aten.std.default, aten.std.dim, aten.std.correction), deviation),
    **dict.fromkeys((aten.var_mean.default, aten.var_mean.dim, aten.var_mean.correction), variance_and_mean),
    aten.linalg_vector_norm.default: vector_norm,
    aten.norm.ScalarOpt_dim: vector_norm,
    aten.cdist.default: cdist,
    aten.logsumexp.default: logsumexp,
    aten.cumsum.default: cumsum,
}
