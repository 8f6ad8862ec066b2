"""Functions by pieces of a uniform grid, each good on both of its neighbours: the numbers of `mpc.curve`.

    place j = low + j step;   piece j is fitted on (place - step, place + step): a polynomial in t = (x - place) / step

It holds on low ... low + (2^depth - 1) step; the two outer pieces are fitted on their inner half only. Least squares over
Chebyshev's points: a few per cent above the least maximum error for functions as smooth as these, and all pieces at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from .minimax import Function, evaluate, rounded

Pieces = tuple[tuple[float, ...], ...]
POINTS, CHECKED = 33, 65
"""Of half a piece: 33 points determine a polynomial of degree up to 7 as well as more would, 65 show its largest error to 1 %."""
BETWEEN = 1.01
"""What an error between two of the points checked may be larger, at most: they are a 64th of a piece apart, and an error of
degree d + 1 there is within cos(pi / 64) of its peak. (Of kinks that is not true.)"""
MANTISSAS = tuple(16 / m for m in range(16, 7, -1))
"""Of a step, times a power of two: its inverse is a multiple of 1/8 of one, so that a value is brought to the grid by a small
factor, and at most an eighth of a grid is more than was asked for."""
DEGREES, WIDE_DEGREES, DEEPEST = (2, 3, 4, 5), (2, 3, 4, 5, 6, 7), 11
"""Of grids that are tried; 2^11 leaves take microseconds. The higher degrees are the cheapest on wide ranges alone, such as those
of exponentials in a softmax, and reach further at the greatest depth."""


@dataclass(frozen=True)
class Grid:
    """2^depth pieces of a degree from `low` on."""

    low: float
    step: float
    depth: int
    degree: int

    @property
    def high(self) -> float:
        """The end of the range, where the last piece has its place."""
        return self.low + ((1 << self.depth) - 1) * self.step

    @property
    def words(self) -> int:
        """What a gate costs: words of its leaves."""
        return (self.degree + 1) << self.depth

    def to_json(self) -> list[float]:
        """As it is written into a plan."""
        return [self.low, self.step, self.depth, self.degree]

    @staticmethod
    def over(low: float, high: float, depth: int, degree: int) -> Grid:
        """The grid of `depth` that covers [low, high], at most an eighth more; none of it below `low`."""
        needed = max(high - low, 1e-3 * max(abs(low), abs(high), 1e-3)) / ((1 << depth) - 1)
        unit = 2.0 ** math.floor(math.log2(needed) + 1e-12)
        return Grid(low, next(unit * m for m in MANTISSAS if unit * m >= needed * (1 - 1e-9)), depth, degree)


@cache
def fit_grid(function: Function, grid: Grid) -> Pieces:
    """Coefficients of 1, t, t^2 ... of every piece. ValueError where the function is infinite or NaN on the grid."""
    half = (1 - np.cos((np.arange(POINTS) + 0.5) * np.pi / POINTS)) / 2  # Chebyshev's points of [0, 1]
    places = grid.low + np.arange(1 << grid.depth)[:, None] * grid.step
    pieces = np.empty((1 << grid.depth, grid.degree + 1))
    for chosen, t in ((slice(1, -1), 2 * half - 1), (slice(0, 1), half), (slice(-1, None), -half)):
        with np.errstate(all="ignore"):
            values = function(places[chosen] + t * grid.step)
        if not np.isfinite(values).all():
            raise ValueError(f"{grid} reaches where its function is infinite or undefined")
        pieces[chosen] = np.linalg.lstsq(np.vander(t, grid.degree + 1, increasing=True), values.T, rcond=None)[0].T
    return tuple(rounded(piece) for piece in pieces)


@cache
def largest_error(
    function: Function, grid: Grid, weight: Function | None = None, kinks: tuple[float, ...] = (), least: float = -math.inf
) -> float:
    """Of both pieces that may be taken at any place of the range; `weight(x)` multiplies the error.

    `kinks` are looked at besides the points between: the error peaks there. Below `least` it does not count.
    """
    pieces = np.array(fit_grid(function, grid))
    number, t = np.meshgrid(np.arange(len(pieces) - 1), np.linspace(0, 1, CHECKED), indexing="ij")
    at = (np.array(kinks) - grid.low) / grid.step
    at = at[(at >= 0) & (at < len(pieces) - 1)]
    number, t = np.append(number, at.astype(int)), np.append(t, at % 1)
    x = grid.low + (number + t) * grid.step
    number, t, x = (values[x >= least] for values in (number, t, x))
    expected, cost = function(x), 1.0 if weight is None else weight(x)
    found = (evaluate(pieces[number + k].T, t - float(k)) for k in (0, 1))
    return BETWEEN * max(float((np.abs(y - expected) * cost).max()) for y in found)


@cache
def cheapest_grid(
    function: Function, low: float, high: float, tolerance: float, weight: Function | None = None, kinks: tuple[float, ...] = (),
    degrees: tuple[int, ...] = DEGREES,
) -> Grid | None:  # fmt: skip
    """The grid of fewest words whose error is within the tolerance; None where even the deepest are further off."""
    return min(_within(function, low, high, tolerance, weight, kinks, degrees), key=lambda grid: grid.words, default=None)


def _within(
    function: Function, low: float, high: float, tolerance: float, weight: Function | None, kinks: tuple[float, ...],
    degrees: tuple[int, ...],
) -> Iterator[Grid]:  # fmt: skip
    """Of each degree the shallowest that is."""
    for degree in degrees:
        for depth in range(2, DEEPEST + 1):
            grid = Grid.over(low, high, depth, degree)
            if largest_error(function, grid, weight, kinks) <= tolerance:
                yield grid
                break


def grids(
    function: Function, low: float, high: float, tolerances: Sequence[float], weight: Function | None = None,
    kinks: tuple[float, ...] = (), degrees: tuple[int, ...] = DEGREES,
) -> list[Grid]:  # fmt: skip
    """The cheapest grid for each tolerance, in that order, none twice."""
    found = [cheapest_grid(function, low, high, tolerance, weight, kinks, degrees) for tolerance in tolerances]
    return [grid for grid in dict.fromkeys(found) if grid is not None]
