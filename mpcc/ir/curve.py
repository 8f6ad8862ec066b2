"""The spline gate: a function of one variable in one round, by pieces of a uniform grid that hold on their neighbours too.

    opened        c = X + r          modulo 2^(depth + low)
    cut in two    c = T 2^low + g,   r = y 2^low + rho,   each low part about its middle, so that exactly
                  X = (T - y mod 2^depth) 2^low + (g - rho)

g - rho lies in (-2^low, 2^low): where the low parts borrow, the piece is the next one and its variable negative. A piece that
holds on both sides of its place needs no comparison to find out. So with t = (g - rho) / 2^low and piece j = T - y

    f(X) = sum_l a_l[j] t^l = sum_m A_m[j] rho^m,      A_m = (-1)^m sum_l choose(l, m) a_l[j] g^(l - m)   public integers

Pieces that are missing are zero: of 2^depth places the table may hold the first 2^k alone (a function that falls to 0, finely
cut). Leaves that would meet a missing piece are never grown: such a gate costs what its table does, and a path of `depth` levels.

The dealer shares the vector that is (1, rho, ..., rho^degree) at y and 0 elsewhere, by a tree (mpcc/runtime/native), and a party
sums its 2^depth leaves times the A of leaf y, piece T - y. The sum is right modulo 2^64 whatever the ring of the opening was.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

KEY_WORDS = 4
"""Words of a key before its corrections: two public AES keys, of the tree's inner nodes and of its leaves."""
MOST_PIECES, MOST_DEPTH, MOST_DEGREE, MOST_LOW = 1 << 12, 28, 7, 14
"""Of a gate. `low`: the product of a place (13 bits and a sign) and of a number below 2^31 is far below 2^63; the numbers of
a piece would not tell places apart that are closer."""
MOST_NUMBER = 1 << 30
"""What every public integer of a gate stays below, so that a compiled kernel may use 32 bits: see `largest_number`."""
MOST_UNIT = 31

Table = Sequence[Sequence[int]]
"""a_l of every piece [degree + 1][pieces], of x in units of a step from the piece's place."""


def grown_levels(depth: int, pieces: int) -> int:
    """log2 of how many leaves a party grows: all, or the two subtrees of `pieces` leaves in which all that meet one lie."""
    return min(depth, pieces.bit_length())


def key_words(count: int, depth: int, width: int) -> int:
    """Words of the key of `count` trees with payloads of `width` words: it travels to both parties."""
    return KEY_WORDS + count * (2 * depth + width)


def curve(
    c: Tensor, roots: Tensor | None, key: Tensor | None, depth: int, low: int, fine: int, table: Table, units: Sequence[int],
    *, lead: bool = True,
) -> Tensor:  # fmt: skip
    """The share of a piecewise polynomial of an opened value; this plain form is the total for a mask of zero.

    `fine`: the fraction bits of the dealer's powers of rho. A piece's integers are in units of 2^units. Parties run
    `mpcc.runtime.native.trees.curve`, which gives shares of exactly this where the mask is zero; where it is not, the piece may
    be the next one, so that two runs differ by up to twice the error of the pieces.
    """
    assert roots is None and key is None, "shares are computed by mpcc.runtime.native"
    pieces = torch.tensor(tuple(map(tuple, table)), dtype=torch.int64, device=c.device)
    piece, place = c >> low & ((1 << depth) - 1), (c & ((1 << low) - 1)) - (1 << low >> 1)
    there = piece < pieces.shape[1]
    piece = piece.clamp(max=pieces.shape[1] - 1)
    found = coefficients([row[piece] * there for row in pieces], place, low, fine)
    rho = powers(torch.zeros((), dtype=torch.int64, device=c.device), low, len(table) - 1, fine)
    total = found[0]
    for number, power in zip(found[1:], rho[1:], strict=True):
        total = total + number * power
    return total << torch.tensor(tuple(units), dtype=torch.int64, device=c.device)[piece] if any(units) else total


def coefficients(chosen: Sequence[Tensor], place: Tensor, low: int, fine: int) -> list[Tensor]:
    """A_m from the a_l of the chosen piece; rounded down after each product, and to units of 2^fine for m > 0."""
    degree, found = len(chosen) - 1, []
    for m in range(degree + 1):
        v = chosen[degree] * comb(degree, m)
        for power in range(degree - 1, m - 1, -1):
            v = (v * place >> low) + chosen[power] * comb(power, m)
        if m:
            v = ((v if m % 2 == 0 else -v) + (1 << fine >> 1)) >> fine
        found.append(v)
    return found


def powers(rho: Tensor, low: int, degree: int, fine: int) -> Tensor:
    """1, and rho^1 ... rho^degree in steps, rounded to `fine` bits: [degree + 1, *shape]. rho: `low` bits.

    By multiplications alone, which every device rounds alike.
    """
    t = (rho - (1 << low >> 1)).double() / 2**low
    found, power = [torch.ones_like(rho)], t
    for _ in range(degree):
        found.append((power * 2**fine).round().to(torch.int64))
        power = power * t
    return torch.stack(found)


def largest_number(table: Table) -> int:
    """The largest integer, in magnitude, that `coefficients` can meet: |place| is at most half of 2^low."""
    return int(largest_numbers(np.array(table, np.float64)).max(initial=0))


def largest_numbers(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The same for each piece, of numbers that need not be integers yet: [degree + 1, pieces] -> [pieces]."""
    degree, sizes = len(table) - 1, np.abs(table)
    sums = [sum(sizes[n] * comb(n, m) for n in range(m, degree + 1)) for m in range(degree + 1)]
    found: npt.NDArray[np.float64] = np.max(np.asarray(sums), axis=0) + degree + 1
    return found
