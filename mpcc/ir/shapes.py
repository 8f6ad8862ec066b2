"""Shapes of the operations of a program, by rule where running the kernel on meta tensors is slow or impossible.

A rule takes the arguments of a node and gives its shape; ValueError where the arguments do not fit each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import fx

from . import curve, online
from .comparison_circuit import AND_PLANES, CHUNKS, SUBSETS
from .nn import shape_of
from .ring import words

Shape = tuple[int, ...]


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The common shape, by torch's rules."""
    rank = max(map(len, shapes))
    columns = list(zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True))
    common = tuple(next((size for size in column if size != 1), 1) for column in columns)
    if any(size not in (1, wanted) for wanted, column in zip(common, columns, strict=True) for size in column):
        raise ValueError(f"the shapes {', '.join(map(str, map(list, shapes)))} do not broadcast")
    return common


def like_first(first: fx.Node, *rest: Any) -> Shape:
    """Element by element of the first argument: every other operand is as large, or is broadcast to it."""
    shape = shape_of(first)
    for operand in rest:
        if isinstance(operand, fx.Node) and (other := shape_of(operand)) != shape and broadcast([shape, other]) != shape:
            raise ValueError(f"an operand of shape {list(other)} does not fit one of {list(shape)}")
    return shape


def of_pair(x: fx.Node, y: fx.Node) -> Shape:
    return broadcast([shape_of(x), shape_of(y)])


def of_sum(shares: Sequence[fx.Node], factors: Sequence[int]) -> Shape:
    _same_length(shares, factors, "factor")
    return broadcast([shape_of(share) for share in shares])


def as_stated(shape: Shape, *rest: Any) -> Shape:
    return shape


def of_weight_share(weight: fx.Node, shape: Shape) -> Shape:
    _agree(shape_of(weight), shape)
    return shape


def of_weight_sum(x: fx.Node, weight: fx.Node, shape: Shape) -> Shape:
    _agree(of_pair(x, weight), shape)
    return shape


def of_public_mask(x: fx.Node, shape: Shape, bits: str) -> Shape:
    if len(bits) // 2 != -(-prod(shape) // 8):
        raise ValueError(f"a public mask of {len(bits) // 2} bytes for the shape {list(shape)}")
    _agree(broadcast([shape_of(x), shape]), shape_of(x))
    return shape_of(x)


def of_row_scale(x: fx.Node, shape: Shape, weights: Sequence[int]) -> Shape:
    if len(weights) != prod(shape):
        raise ValueError(f"{len(weights)} weights of rows for the shape {list(shape)}")
    _agree(broadcast([shape_of(x), shape]), shape_of(x))
    return shape_of(x)


def of_gather(x: fx.Node, indices: Sequence[Any]) -> Shape:
    """Positions are looked at, which a meta tensor cannot do."""
    for size, index in zip(shape_of(x), indices, strict=False):
        positions = torch.tensor(index if index is not None else (0,))
        if not -size <= int(positions.min()) <= int(positions.max()) < size:
            raise ValueError(f"a position is outside a dimension of {size}")
    return tuple(online.gather(x.meta["val"], indices).shape)


def of_multilinear(
    openings: Sequence[fx.Node], shifts: Sequence[int], terms: Sequence[Sequence[int]], shares: Sequence[fx.Node],
    rings: Sequence[int],
) -> Shape:  # fmt: skip
    _same_length(openings, shifts, "shift")
    _same_length(openings, rings, "ring")
    _same_length(terms, shares, "share")
    for term in terms:
        _same_length(openings, term, "factor of a term")
    for f, ring in zip(shifts, rings, strict=True):
        fits_ring(f, ring)
    result = broadcast([shape_of(c) for c in openings])
    _agree(broadcast([result, *map(shape_of, shares)]), result)
    return result


def of_truncated(c: fx.Node, f: int, rho: fx.Node, b: fx.Node, ring: int) -> Shape:
    fits_ring(f, ring)
    return like_first(c, rho, b)


def of_power_sum(
    c: fx.Node, f: int, coefficients: Sequence[int], rho: Sequence[fx.Node | None], b_rho: Sequence[fx.Node], ring: int
) -> Shape:
    fits_ring(f, ring)
    _same_length(coefficients, rho, "power of the mask")
    if rho[0] is not None or None in rho[1:]:
        raise ValueError("the powers of the mask start at the first")
    if len(b_rho) != (len(coefficients) - 1 if f else 0):
        raise ValueError(f"{len(b_rho)} products with the mask's top bit for degree {len(coefficients) - 1}")
    return like_first(c, *rho, *b_rho)


def of_select(
    opened: fx.Node, beta: fx.Node, c: fx.Node, f: int, rho: fx.Node, b: fx.Node | None, beta_rho: fx.Node,
    beta_b: fx.Node | None, ring: int,
) -> Shape:  # fmt: skip
    fits_ring(f, ring)
    if (f > 0) != (b is not None) or (f > 0) != (beta_b is not None):
        raise ValueError("the mask's top bit goes with a shift, and a shift with it")
    _agree(shape_of(opened), (words(prod(shape_of(c))),))
    _agree((prod(shape_of(beta)),), (prod(shape_of(c)),))
    _agree(shape_of(beta_rho), like_first(c, rho, b, beta_b))
    return shape_of(c)


def fits_ring(f: int, ring: int) -> None:
    """A truncation at an opening keeps at least one bit of what lies below the ring's half."""
    if f > ring - 2:
        raise ValueError(f"a shift of {f} bits in a ring of {ring}")


# ---- spline gates --------------------------------------------------------------------------------------------------


def of_curve(
    c: fx.Node, roots: fx.Node, key: fx.Node, depth: int, low: int, fine: int, table: curve.Table, units: Sequence[int]
) -> Shape:
    count = prod(shape_of(c))
    for row in table:
        _same_length(units, row, "number")
    if len(units) not in {1 << k for k in range(depth + 1)}:
        raise ValueError(f"{len(units)} pieces in a tree of depth {depth}")
    if curve.largest_number(table) >= curve.MOST_NUMBER:
        raise ValueError(f"the numbers of the pieces reach {curve.MOST_NUMBER}")
    _agree(shape_of(roots), (count, 2))
    _agree(shape_of(key), (curve.key_words(count, depth, len(table)),))
    return shape_of(c)


def of_tree_keys() -> Shape:
    return (curve.KEY_WORDS,)


def of_powers(r: fx.Node, low: int, degree: int, fine: int) -> Shape:
    return degree + 1, *shape_of(r)


def of_tree(roots: fx.Node, keys: fx.Node, point: fx.Node, payload: fx.Node, depth: int) -> Shape:
    count = prod(shape_of(point))
    _agree(shape_of(roots), (count, 2))
    _agree(shape_of(keys), (curve.KEY_WORDS,))
    _agree(shape_of(payload)[1:], shape_of(point))
    return (curve.key_words(count, depth, shape_of(payload)[0]),)


# ---- packed bits ---------------------------------------------------------------------------------------------------


def of_leaves(c: fx.Node, threshold: int, low: int, tables: fx.Node, sign: fx.Node) -> Shape:
    count = prod(shape_of(c))
    _agree(shape_of(tables), (CHUNKS // 2, count))
    _agree(shape_of(sign), (words(count),))
    return AND_PLANES + 1, words(count)


def of_planes(leaf: fx.Node) -> Shape:
    return AND_PLANES, _columns(leaf, AND_PLANES + 1)


def of_and_planes(e: fx.Node, leaf: fx.Node, a: fx.Node, products: fx.Node) -> Shape:
    count = _columns(leaf, AND_PLANES + 1)
    for operand, rows in ((e, AND_PLANES), (a, AND_PLANES), (products, len(SUBSETS))):
        _agree(shape_of(operand), (rows, count))
    return (count,)


def of_bit_number(opened: fx.Node, beta: fx.Node, shape: Shape) -> Shape:
    _agree(shape_of(opened), (words(prod(shape)),))
    _agree((prod(shape_of(beta)),), (prod(shape),))
    return shape


def of_tables(r: fx.Node, low: int) -> Shape:
    return CHUNKS // 2, prod(shape_of(r))


def flat(r: fx.Node, *rest: Any) -> Shape:
    return (prod(shape_of(r)),)


def of_plane_masks(count: int) -> Shape:
    return AND_PLANES, count


def of_mask_products(a: fx.Node) -> Shape:
    return len(SUBSETS), _columns(a, AND_PLANES)


def of_packed(bits: fx.Node) -> Shape:
    return (words(prod(shape_of(bits))),)


def _columns(planes: fx.Node, rows: int) -> int:
    shape = shape_of(planes)
    if len(shape) != 2 or shape[0] != rows:
        raise ValueError(f"{planes.name} has the shape {list(shape)}, not {rows} planes")
    return shape[1]


def _same_length(one: Sequence[Any], other: Sequence[Any], what: str) -> None:
    if len(one) != len(other):
        raise ValueError(f"one {what} for each of {len(one)} is needed, there are {len(other)}")


def _agree(found: Shape, wanted: Shape) -> None:
    if found != tuple(wanted):
        raise ValueError(f"the shape {list(found)} where {list(wanted)} is needed")
