"""GELU as x/2 + E(x^2) between two thresholds, 0 below and x above.

    gelu(x) = x/2 + |x| erf(|x| / sqrt 2) / 2, and the second term is an even function: a polynomial of degree 4 in x^2
    y = x + [x < T] (E - x/2) - [x < -T] (E + x/2)

x is opened once for its square, both thresholds and both selections; three rounds. The threshold T is searched: the fit
on [-T, T] gets worse with T, the step at -T (gelu(-T) is not 0) gets better. There is no range outside which it fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.blocks import poly
from mpcc.fitting.minimax import Array, density, evaluate, fit_polynomial, gelu
from mpcc.ir import mpc

REACH = 12.0  # beyond it gelu(x) is 0 or x to 1e-30


def gelu_even(x: Any, *, threshold: float, coefficients: Sequence[float]) -> Any:
    """gelu(x), any shape; coefficients of E in x^2."""
    even = poly(mpc.square(x), coefficients)
    below, inside = mpc.less(x, -threshold), mpc.less(x, threshold)
    halves = mpc.scale(mpc.add(mpc.select(inside, x), mpc.select(below, x)), -0.5)
    return mpc.add(x, mpc.add(mpc.sub(mpc.select(inside, even), mpc.select(below, even)), halves))


def even_part(u: Array) -> Array:
    """gelu(x) - x/2 at x = sqrt(u)."""
    return gelu(np.sqrt(u)) - np.sqrt(u) / 2


@cache
def fitted(threshold: float, degree: int) -> tuple[float, ...]:
    """E by minimax on the whole interval."""
    return fit_polynomial(even_part, 0.0, threshold**2, degree).coefficients


def candidate(threshold: float, coefficients: Sequence[float]) -> Options:
    return {"threshold": threshold, "coefficients": list(coefficients)}


@cache
def best_threshold(degree: int) -> float:
    """The T with the least maximum error."""
    choices = np.round(np.arange(2.0, 3.61, 0.05), 2)
    return float(min(choices, key=lambda t: error(candidate(float(t), fitted(float(t), degree)))))


def weighted(statistics: SiteStatistics, degree: int) -> Options:
    """The T and E with the least mean square error over the site's own values."""
    values = statistics.samples["input"].numpy()
    best, least = None, np.inf
    for threshold in np.round(np.arange(2.0, 3.61, 0.2), 2):
        t = float(threshold)
        spread = density(np.abs(values[np.abs(values) < t]), floor=0.1) if (np.abs(values) < t).any() else None
        weight = None if spread is None else (lambda u, s=spread: s(np.sqrt(u)))  # noqa: E731
        fit = fit_polynomial(even_part, 0.0, t**2, degree, weight=weight, iterations=1)
        options = candidate(t, fit.coefficients)
        mean_square = float(np.square(plain(options, values) - gelu(values)).mean())
        if mean_square < least:
            best, least = options, mean_square
    assert best is not None
    return best


def plain(options: Options, x: Array) -> Array:
    """What the approximation computes, in numpy."""
    t = options["threshold"]
    inside = x / 2 + evaluate(options["coefficients"], x**2)
    return np.where(x < -t, 0.0, np.where(x < t, inside, x))


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """Degrees 4, 3 and 2: each by minimax, then fitted to the site's distribution."""
    found: list[Options] = []
    for degree in (4, 3, 2):
        threshold = best_threshold(degree)
        found += [candidate(threshold, fitted(threshold, degree)), weighted(statistics, degree)]
    return tuple(found)


def error(options: Options) -> float:
    """Largest absolute error over all x."""
    t = options["threshold"]
    x = np.concatenate([np.linspace(-REACH, REACH, 24001), [np.nextafter(-t, 0), -t, np.nextafter(t, 0), t]])
    return float(np.abs(plain(options, x) - gelu(x)).max())


GELU_EVEN = Approximation(
    name="gelu_even",
    operator="gelu",
    level="bounded",
    source="fitted; the even form is exact: gelu(x) - x/2 is even",
    function=gelu_even,
    candidates=candidates,
    error=error,
    preference=2,
    summary="x/2 + E(x^2) between two thresholds",
)
