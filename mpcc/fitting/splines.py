"""Splines with free knots: the fewest polynomial pieces within a tolerance, found from left to right.

The outer pieces are given (0 and x for a GELU), so nothing fails outside; the pieces need not meet. Coefficients are
coarse: sums of a few powers of two each, which fixed point adds up without loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from .minimax import Array, Function, chebyshev_grid, evaluate, fit_points

REACH = 40.0
STEPS = 16
UNITS = (2.0**-11, 2.0**-9, 2.0**-12)
"""What the coefficients of 1, x and x^2 are multiples of."""
QUICK_POINTS, QUICK_ITERATIONS = 41, 10


@dataclass(frozen=True)
class Spline:
    """Piece j holds below thresholds[j], the last one above all; coefficients of powers, lowest first."""

    thresholds: tuple[float, ...]
    pieces: tuple[tuple[float, ...], ...]


@cache
def fit_spline(
    function: Function, below: tuple[float, ...], above: tuple[float, ...], degree: int, tolerance: float
) -> Spline:
    """Pieces of `degree` between the given outer pieces, each within `tolerance` of the function."""
    start = _edge(function, below, tolerance, -REACH, 1.0)
    stop = _edge(function, above, tolerance, REACH, -1.0)
    thresholds, pieces = [start], [below]
    while thresholds[-1] < stop:
        end, piece = _longest(function, thresholds[-1], stop, degree, tolerance)
        thresholds.append(end)
        pieces.append(piece)
    pieces.append(above)
    return Spline(tuple(round(t, 4) for t in thresholds), tuple(pieces))


def spline_of(
    function: Function, below: Sequence[float], above: Sequence[float], degree: int, count: int
) -> Spline:
    """The spline with at most `count` thresholds and the least tolerance that allows it."""
    low, high = 1e-5, 0.5
    for _ in range(STEPS):
        middle = float(np.sqrt(low * high))
        if len(fit_spline(function, tuple(below), tuple(above), degree, middle).thresholds) <= count:
            high = middle
        else:
            low = middle
        if high / low < 1.02:
            break
    return fit_spline(function, tuple(below), tuple(above), degree, high)


def _edge(function: Function, piece: Sequence[float], tolerance: float, end: float, inward: float) -> float:
    """How far inward from `end` the outer piece holds."""
    x = np.linspace(end, 0.0 + 8.0 * inward, 20001)
    good = np.abs(function(x) - evaluate(piece, x)) <= tolerance
    first_bad = int(np.argmin(good)) if not good.all() else len(x)
    return float(x[max(first_bad - 1, 0)])


def _longest(
    function: Function, start: float, stop: float, degree: int, tolerance: float
) -> tuple[float, tuple[float, ...]]:
    """The longest interval from `start` that one polynomial covers, and that polynomial."""
    low, high = start, stop
    if _covered(function, start, stop, degree, tolerance):
        low = stop
    for _ in range(STEPS if low < stop else 0):
        middle = (low + high) / 2
        if _covered(function, start, middle, degree, tolerance):
            low = middle
        else:
            high = middle
    return low, _coarse(function, start, low, degree)


def _coarse(function: Function, low: float, high: float, degree: int) -> tuple[float, ...]:
    """The best polynomial with coarse coefficients: rounded from the highest down, the lower ones fitted again."""
    x = chebyshev_grid(low, high)
    y, cost, kept = function(x), np.ones_like(x), []
    for power in range(degree, -1, -1):
        found = fit_points(x, y, cost, power)
        kept.append(round(found[power] / UNITS[power]) * UNITS[power])
        y = y - kept[-1] * x**power
    return tuple(reversed(kept))


def _covered(function: Function, low: float, high: float, degree: int, tolerance: float) -> bool:
    """Whether some polynomial of that degree is within the tolerance, by Lawson's iteration on few points.

    The weighted root mean square error never exceeds the least maximum error, so most questions end early.
    """
    points, basis = _basis(degree)
    y = function((low + high) / 2 + (high - low) / 2 * points)
    weights = np.full_like(y, 1 / len(y))
    for _ in range(QUICK_ITERATIONS):
        weighted = basis * weights[:, None]
        error = np.abs(basis @ np.linalg.solve(weighted.T @ basis, weighted.T @ y) - y)
        if error.max() <= tolerance:
            return True
        if np.sqrt((weights * error**2).sum()) > tolerance:
            return False
        weights = weights * (error + 1e-3 * error.max())
        weights /= weights.sum()
    return False


@cache
def _basis(degree: int) -> tuple[Array, Array]:
    """Chebyshev's points of [-1, 1] and an orthogonal basis of polynomials on them."""
    points = -np.cos(np.linspace(0, np.pi, QUICK_POINTS))
    return points, np.linalg.qr(np.vander(points, degree + 1))[0]
