"""Shapes of computation that several approximations share, over the mpc primitives. Shared code, not a plug-in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from mpcc.ir import mpc
from mpcc.ir.public_mask import row_weights

aten = torch.ops.aten

Stages = Sequence[Sequence[Sequence[float]]]
RowMask = tuple[tuple[int, ...], str]
"""A public mask of what each row of a softmax sees: its shape, broadcast, and its bits (mpcc.ir.public_mask)."""


def poly(x: Any, coefficients: Sequence[float]) -> Any:
    """A polynomial with public coefficients; degree 0 and 1 are local, so they must not open `x`.

    A straight line adds its constant at the scale of `x`, before it scales: a small slope leaves no room for it later.
    """
    if len(coefficients) > 2:
        return mpc.polynomial(x, tuple(coefficients))
    constant, slope = (*coefficients, 0.0)[:2]
    if abs(slope) < 1e-12:
        return mpc.add(mpc.scale(x, 0.0), constant)
    return mpc.scale(mpc.add(x, constant / slope), slope)


def scaled(x: Any, factor: float) -> Any:
    """x times a public number; x itself where that is 1."""
    return x if factor == 1.0 else mpc.scale(x, factor)


def group_normed(x: Any, num_groups: int, weight: Any, bias: Any, norm: Callable[[Any], Any]) -> Any:
    """`norm` of each group of channels of x [batch, channels, ...], given as [batch, groups, rest]; weight and bias [channels]
    may be absent."""
    shape = [int(size) for size in x.shape]
    y = aten.reshape.default(norm(aten.reshape.default(x, [shape[0], num_groups, -1])), shape)
    column = [1, shape[1], *([1] * (len(shape) - 2))]
    y = y if weight is None else mpc.mul(y, aten.reshape.default(weight, column))
    return y if bias is None else mpc.add(y, aten.reshape.default(bias, column))


def factors(d: Any, stages: Stages) -> list[Any]:
    """The factors of a chain (see mpcc.fitting.factor_chains) at `d`; their product is 1/d or 1/sqrt(d)."""
    made = []
    for factor, residual in stages:
        made.append(poly(d, factor))
        if residual:
            d = poly(d, residual)
    return made


def product(x: Any, terms: Sequence[Any], *, joined: bool) -> Any:
    """x times every term, broadcast.

    `joined` multiplies the (small) terms first: fewest bytes. Otherwise x takes one term after another while the later
    terms are still being computed: one round less.
    """
    if not joined:
        for term in terms:
            x = mpc.mul(x, term)
        return x
    total = terms[0]
    for term in terms[1:]:
        total = mpc.mul(total, term)
    return mpc.mul(x, total)


def times_rsqrt(x: Any, v: Any, stages: Stages, correction: Sequence[float] = (), *, joined: bool) -> Any:
    """x / sqrt(v), v broadcast, by a chain; with a correction (see mpcc.fitting.corrections) x y + x y s(1 - v y^2).

    x is multiplied last in both terms: so they share its opening, and the large tensor is opened once.
    """
    terms = factors(v, stages)
    if not correction:
        return product(x, terms, joined=joined)
    y = terms[0]
    for term in terms[1:]:
        y = mpc.mul(y, term)
    e = mpc.add(mpc.scale(mpc.mul(mpc.mul(v, y), y), -1.0), 1.0)
    return mpc.add(mpc.mul(x, y), mpc.mul(x, mpc.mul(y, poly(e, correction))))


def power(y: Any, exponents: Sequence[int]) -> Any:
    """y to the product of `exponents`, one opening each."""
    for exponent in exponents:
        y = mpc.square(y) if exponent == 2 else mpc.polynomial(y, (*[0.0] * exponent, 1.0))
    return y


def row_mean(x: Any, dims: tuple[int, ...], mask: RowMask | None = None) -> Any:
    """The mean along `dims`, of what a row sees if there is a mask (then nearly: see `row_weights`)."""
    if mask is None:
        return mpc.mean(x, dims, keepdim=True)
    k, shape, weights = row_weights(*mask, dims[0])
    return mpc.scale(mpc.scale_rows(mpc.sum(mpc.apply_mask(x, *mask), dims, True), shape, weights), 2.0**-k)


def share(
    e: Any, dims: tuple[int, ...], stages: Stages | None, *, joined: bool, floor: float = 0.0, mask: RowMask | None = None
) -> Any:
    """e over its sum along `dims`: e (1/d) / N with d = mean(e) + floor in the domain of the chain.

    With a mask, e is 0 where a row does not see, and N is 2^k over the weight of the row in its mean: that they are
    only nearly what the row sees cancels. Without `stages` 1/d is exact, which only tensors can do: what a model is
    trained with, before there is a range.
    """
    mean = row_mean(e, dims, mask)
    d = mpc.add(mean, floor) if floor else mean
    return share_of(e, dims, [d.reciprocal()] if stages is None else factors(d, stages), joined=joined, mask=mask)


def share_of(e: Any, dims: tuple[int, ...], terms: list[Any], *, joined: bool, mask: RowMask | None = None) -> Any:
    """As `share`, from factors of 1/d."""
    if mask is not None:
        k, shape, weights = row_weights(*mask, dims[0])
        terms[0] = mpc.scale(mpc.scale_rows(terms[0], shape, weights), 2.0**-k)
        return product(e, terms, joined=joined)
    y = product(e, terms, joined=joined)
    count = 1
    for dim in dims:
        count *= int(e.shape[dim])
    return mpc.scale(y, 1.0 / count)


def positive_dim(x: Any, dim: int) -> int:
    """`dim` counted from the front."""
    return dim % len(x.shape)


def clamped(x: Any, low: float | None, high: float | None) -> Any:
    """x limited to [low, high]: [x < high] x - [x < low] x + low [x < low] + high (1 - [x < high])."""
    y = x
    if high is not None:
        bit = mpc.less(x, float(high))
        y = mpc.add(mpc.sub(mpc.select(bit, x), mpc.scale(bit, float(high))), float(high))
    if low is not None:
        bit = mpc.less(x, float(low))
        y = mpc.add(mpc.sub(y, mpc.select(bit, x)), mpc.scale(bit, float(low)))
    return y


def piece(x: Any, dim: int, start: int, stop: int) -> Any:
    """x[start:stop] along `dim`."""
    return aten.slice.Tensor(x, dim, start, stop)


def largest(x: Any, dims: Sequence[int], *, keepdim: bool) -> Any:
    """The maximum over `dims` (all if empty) by halving; an odd element waits for the next level."""
    rank = len(x.shape)
    reduced = [positive_dim(x, dim) for dim in dims] or list(range(rank))
    for dim in reduced:
        while (count := int(x.shape[dim])) > 1:
            half = count // 2
            top = mpc.maximum(piece(x, dim, 0, half), piece(x, dim, half, 2 * half))
            x = top if count == 2 * half else aten.cat.default([top, piece(x, dim, 2 * half, count)], dim)
    if keepdim:
        return x
    return aten.reshape.default(x, [int(size) for dim, size in enumerate(x.shape) if dim not in reduced])


def repeat_border(x: Any, dim: int, count: int) -> Any:
    """x with its first and last slice along `dim` repeated `count` times on each side."""
    if count == 0:
        return x
    size = int(x.shape[dim])
    first, last = piece(x, dim, 0, 1), piece(x, dim, size - 1, size)
    return aten.cat.default([first] * count + [x] + [last] * count, dim)


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of torch's int, one-element or two-element argument."""
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])
