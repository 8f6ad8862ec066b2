"""Exact rounds and bytes of CrypTen 0.4.1's functions for two parties, function by function, read off its source.

Sizes are numbers of elements. Every opening is one `all_reduce` of 8-byte elements, which CrypTen's counters book as
16 B an element (sent and received). File names are those of CrypTen's package.
"""

from __future__ import annotations

import math
from typing import Any

import sympy

from mpcc.cost import Amount, Work

OPENED = 16  # bytes: 8 each way

FREE = Work()


def exchange(count: Amount) -> Work:
    """Open `count` elements in one message (mpc/primitives/beaver.py)."""
    return Work(1, OPENED * count)


def mul(first: Amount, second: Amount) -> Work:
    """Beaver's product: both operands are opened, unbroadcast, in one batch (beaver.py). Also matmul, conv."""
    return exchange(first + second)


def square(count: Amount) -> Work:
    return exchange(count)


def power(count: Amount, exponent: int) -> Work:
    """By squares and products, as mpcc's stock engine does it."""
    bits = bin(exponent)[2:]
    return square(count) * (len(bits) - 1) + mul(count, count) * (bits.count("1") - 1)


def less(count: Amount) -> Work:
    """Sign bit: one AND and six levels of the carry tree with both inputs broadcast to two (circuit.py), one bit to
    arithmetic shares (converters.py): 8 rounds, 432 B."""
    return exchange(2 * count) + exchange(4 * count) * 6 + exchange(count)


def equal(count: Amount) -> Work:
    """x == 0: six ANDs and one bit to arithmetic shares (mpc.py `_eqz_2PC`, circuit.py `eq`)."""
    return exchange(2 * count) * 6 + exchange(count)


def relu(count: Amount) -> Work:
    """x * (x >= 0) (common/functions/logic.py)."""
    return less(count) + mul(count, count)


def exp(count: Amount, iterations: int = 8) -> Work:
    """(1 + x / 2^k)^(2^k) (common/functions/approximations.py)."""
    return square(count) * iterations


def newton_reciprocal(count: Amount, steps: int) -> Work:
    return (square(count) + mul(count, count)) * steps


def reciprocal(count: Amount, positive: bool) -> Work:
    """3 exp(1 - 2x) + .003, then ten Newton steps; a sign before and after unless `positive` (approximations.py)."""
    magnitude = exp(count) + newton_reciprocal(count, 10)
    return magnitude if positive else less(count) + mul(count, count) * 2 + magnitude


def inv_sqrt(count: Amount) -> Work:
    """A start by exp, then three Newton steps (approximations.py)."""
    return exp(count) + (square(count) + mul(count, count) * 2) * 3


def sigmoid(count: Amount) -> Work:
    """Sign, exp of -|x|, three Newton steps from 0.75 (the first is public), a choice (approximations.py)."""
    return less(count) + mul(count, count) + exp(count) + newton_reciprocal(count, 2) + mul(count, count) * 2


def hardtanh(count: Amount) -> Work:
    """Two stacked relus (logic.py)."""
    return relu(2 * count)


def polynomial(count: Amount, degree: int) -> Work:
    """Powers by a growing tree (common/functions/power.py)."""
    if degree <= 1:
        return FREE
    work, terms = square(count), 2
    while terms < degree:
        work = work + mul(terms * count, count)
        terms *= 2
    return work


def maximum(rows: Amount, columns: Amount) -> Work:
    """Row maxima by `max` with its argmax, which CrypTen computes even if nobody asks (maximum.py, log_reduction)."""
    if isinstance(columns, int):
        one = _maximum_of_one_row(columns)
        return Work(one.rounds, one.bytes * rows)
    return Work(MaximumRounds(columns), MaximumBytes(columns) * rows)


def _maximum_of_one_row(columns: int) -> Work:
    reduced, work = columns, FREE
    for _ in range(int(math.log(columns))):
        pairs = reduced // 2
        work = work + less(pairs) + mul(pairs, pairs) * 2
        reduced = pairs + reduced % 2
    others = max(reduced, 2) - 1
    work = work + less(others * reduced)
    work = work + (_product(others, reduced) if others < 128 else less(reduced))
    work = work + _weighted_index(reduced) + mul(reduced, reduced)
    return work + equal(columns) + _weighted_index(columns)


def _product(terms: int, width: int) -> Work:
    """Product over `terms` tensors of `width` elements, by halving (regular.py)."""
    work = FREE
    while terms > 1:
        half = terms // 2
        work = work + mul(half * width, half * width)
        terms = half + terms % 2
    return work


def _weighted_index(columns: int) -> Work:
    """Breaks ties: a random number of 16 bits, a product, a comparison of every element (sampling.py)."""
    return exchange(16) + mul(1, 1) + less(columns)


class MaximumRounds(sympy.Function):  # type: ignore[misc]
    """Rounds of `max` over rows of so many columns; stays a symbol until the number is known."""

    @classmethod
    def eval(cls, columns: Any) -> Any:
        return sympy.Integer(_maximum_of_one_row(int(columns)).rounds) if columns.is_Integer else None


class MaximumBytes(sympy.Function):  # type: ignore[misc]
    """Bytes of `max` for one row of so many columns; stays a symbol until the number is known."""

    @classmethod
    def eval(cls, columns: Any) -> Any:
        return sympy.Integer(_maximum_of_one_row(int(columns)).bytes) if columns.is_Integer else None
