"""exp as a short polynomial raised to a power: exp(x) = p(x)^m with m = product of `powers`, p fitted to exp(x / m).

Each power (2, 3 or 4) is one opening, and so is p: [3, 3] is p, then a cube, then a cube, three rounds.

What an error costs depends on the use: it counts relative to max(floor, exp(x)).
    floor = 1      a softmax over logits whose mean was subtracted: the sum is at least the number of terms (Jensen)
    floor = 1/N    a softmax over N logits whose maximum was subtracted: the sum is at least 1
    floor = 0      exp by itself: relative
With errors below delta of the first two kinds, a softmax is off by at most 2 delta / (1 - 2 delta).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .minimax import Array, chebyshev_grid, evaluate, fit_polynomial, quantised

LARGEST_POWER = 4
MOST_POWERS = 4
REFITS = 3
DEGREES = (3, 4)


@dataclass(frozen=True)
class Exponential:
    """p's coefficients, and the powers. `error` is that of the formula, `fixed_error` counts the engine's bits, too."""

    start: tuple[float, ...]
    powers: tuple[int, ...]
    error: float
    fixed_error: float

    @property
    def rounds(self) -> int:
        return 1 + len(self.powers)


def value(start: Sequence[float], powers: Sequence[int], x: Array, *, fixed_point: bool = False) -> Array:
    """p(x)^m; with `fixed_point`, each argument keeps only the bits that the engine has for it."""
    y = evaluate(start, quantised(x, len(start) - 1) if fixed_point else x)
    for power in powers:
        y = (quantised(y, power) if fixed_point else y) ** power
    return y


def error(
    start: Sequence[float], powers: Sequence[int], x: Array, *, floor: float, fixed_point: bool = False
) -> float:
    """The largest error at `x`, relative to max(floor, exp(x))."""
    exact = np.exp(x)
    cost = np.maximum(floor, exact)
    return float((np.abs(value(start, powers, x, fixed_point=fixed_point) - exact) / cost).max())


@cache
def fit_exponential(low: float, high: float, degree: int, powers: tuple[int, ...], floor: float = 1.0) -> Exponential:
    """p fitted on [low, high] so that the error of p^m, not of p, is the least.

    p may be off by as much as moves p^m by delta: (exp(x) + delta)^(1/m) - exp(x/m) where the error is absolute. That
    depends on delta, which is found by iteration.
    """
    m, x = math.prod(powers), chebyshev_grid(low, high)
    delta, best = 1e-3, None
    for _ in range(REFITS):

        def weight(at: Array, delta: float = delta) -> Array:
            exact = np.exp(at)
            allowed = delta * np.maximum(floor, exact)
            return 1e-3 / ((exact + allowed) ** (1 / m) - np.exp(at / m))  # type: ignore[no-any-return]

        start = fit_polynomial(lambda at: np.exp(at / m), low, high, degree, weight=weight).coefficients
        found = error(start, powers, x, floor=floor)
        if best is None or found < best.error:
            best = Exponential(start, powers, found, error(start, powers, x, floor=floor, fixed_point=True))
        delta = min(max(found, 1e-7), 0.5)
    assert best is not None
    return best


def plan_exponentials(low: float, high: float, floor: float = 1.0) -> list[Exponential]:
    """For each number of rounds the most accurate one in fixed point, fewest rounds first.

    A longer one is kept only if it takes a third off the error.
    """
    kept: list[Exponential] = []
    for count in range(MOST_POWERS + 1):
        # The last power is a square: its result fits the scale of a matrix product, a cube's would be opened twice.
        every = itertools.combinations_with_replacement(range(LARGEST_POWER, 1, -1), count)
        all_powers = [powers for powers in every if powers[-1:] in ((), (2,))]
        candidates = [fit_exponential(low, high, degree, powers, floor) for powers in all_powers for degree in DEGREES]
        best = min(candidates, key=lambda candidate: candidate.fixed_error)
        if not kept or best.fixed_error < kept[-1].fixed_error / 1.5:
            kept.append(best)
        if kept[-1].fixed_error < 1e-3:
            break
    return kept


def choose_exponential(low: float, high: float, tolerance: float, floor: float = 1.0) -> Exponential:
    """The one with fewest rounds within the tolerance, or the most accurate one if none is."""
    candidates = plan_exponentials(low, high, floor)
    return next((candidate for candidate in candidates if candidate.fixed_error <= tolerance), candidates[-1])


def options_of(candidate: Exponential) -> dict[str, Any]:
    """The options that an approximation built on this exponential records."""
    return {"start": list(candidate.start), "powers": list(candidate.powers)}
