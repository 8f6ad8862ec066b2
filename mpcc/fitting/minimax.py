"""Polynomial fits: minimax by Lawson's iteration, weighted by what the error costs where.

    fit_polynomial(np.exp, -1.0, 1.0, 4)                       least maximum absolute error
    fit_polynomial(np.exp, -1.0, 1.0, 4, relative=True)        least maximum relative error
    fit_polynomial(gelu, -3.0, 3.0, 4, weight=density(samples))     error weighted by where the values are

The fit is made in the variable centred and scaled to [-1, 1] and given in the original one, for `mpc.polynomial`.
Method: C. L. Lawson (1961), iteratively reweighted least squares whose weights converge to the extremal points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dposv
from scipy.special import erf, expit

Array = npt.NDArray[np.float64]
Function = Callable[[Array], Array]

GRID = 401
ITERATIONS = 30
PROGRESS, PATIENCE = 5e-4, 5
"""Iterations that do not take this part off the error, one after the other, are the last ones."""
DIGITS = 10
POLYNOMIAL_BITS = 46.0
"""The engine evaluates a polynomial of degree d of a value that has about 46/d significant bits over its range."""


@dataclass(frozen=True)
class Fit:
    """Coefficients, lowest power first, and the largest error on the grid (absolute, or relative if so asked)."""

    coefficients: tuple[float, ...]
    error: float


def chebyshev_grid(low: float, high: float, count: int = GRID) -> Array:
    """`count` points of [low, high], denser at the ends."""
    return np.asarray(low + (high - low) * (1 - np.cos(np.linspace(0, np.pi, count))) / 2)


def evaluate(coefficients: Sequence[float], x: Array) -> Array:
    """coefficients[0] + coefficients[1] x + ..."""
    y = np.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        y = y * x + c
    return y


def fit_polynomial(
    function: Function,
    low: float,
    high: float,
    degree: int,
    *,
    relative: bool = False,
    weight: Function | None = None,
    powers: Sequence[int] | None = None,
    iterations: int = ITERATIONS,
) -> Fit:
    """The polynomial nearest to `function` on [low, high].

    `weight(x)` multiplies the error; `powers` keeps only these powers of x (then it is fitted about 0, not centred);
    one iteration is plain weighted least squares, many are minimax. The error is the unweighted maximum.
    """
    least = 1e-3 * max(1.0, abs(low), abs(high))  # a range of one value is widened: a fit needs some room
    if high - low < least:
        low, high = low - least / 2, high + least / 2
    x = chebyshev_grid(low, high)
    y = function(x)
    base = 1 / np.abs(y) if relative else np.ones_like(x)
    cost = base if weight is None else base * weight(x)
    coefficients = fit_points(x, y, cost, degree, powers=powers, iterations=iterations)
    return Fit(coefficients, float((np.abs(evaluate(coefficients, x) - y) * base).max()))


def fit_points(
    x: Array,
    y: Array,
    cost: Array,
    degree: int,
    *,
    powers: Sequence[int] | None = None,
    iterations: int = ITERATIONS,
) -> tuple[float, ...]:
    """Coefficients of the polynomial with the least maximum of cost * |p(x) - y| over the points."""
    low, high = float(x.min()), float(x.max())
    middle, half = ((low + high) / 2, (high - low) / 2) if powers is None else (0.0, max(abs(low), abs(high)))
    if half <= 1e-9 * max(1.0, abs(middle)):  # one point: a constant
        return (float(y.mean()), *[0.0] * degree)
    terms = list(range(degree + 1)) if powers is None else list(powers)
    basis = np.stack([((x - middle) / half) ** k for k in terms], axis=1)
    return _in_original(_lawson(basis, y, cost, iterations), middle, half, terms)


def _lawson(basis: Array, y: Array, cost: Array, iterations: int) -> Array:
    """The coefficients of least maximum `cost` * error; the best iterate seen.

    The weights are multiplied by the error to the power 1.5, not 1 as Lawson's: half as many iterations come as near.
    """
    scaled, target = basis * cost[:, None], y * cost
    q, r = np.linalg.qr(scaled)  # an orthogonal basis keeps the normal equations of every iteration well conditioned
    rows, weights = np.ascontiguousarray(q.T), np.full_like(y, 1 / len(y))
    best, least, stalled = np.zeros(basis.shape[1]), np.inf, 0
    for _ in range(iterations):
        weighted = rows * weights
        _, found, singular = dposv(weighted @ q, weighted @ target)
        if singular:
            break
        error = np.abs(q @ found - target)
        largest = float(error.max())
        stalled = 0 if largest < least * (1 - PROGRESS) else stalled + 1
        if largest < least:
            best, least = found, largest
        bound = math.sqrt(float(weights @ (error * error)))  # never above the least maximum error
        if largest < 1.01 * bound or stalled == PATIENCE:
            break
        error += 1e-3 * largest + 1e-300
        weights *= error * np.sqrt(error)
        weights /= weights.sum()
    return np.asarray(np.linalg.solve(r, best))


def _in_original(found: Array, middle: float, half: float, powers: Sequence[int]) -> tuple[float, ...]:
    plain = [0.0] * (max(powers) + 1)
    for power, value in zip(powers, found, strict=True):
        for k in range(power + 1):  # ((x - middle) / half)^power
            plain[k] += float(value) * math.comb(power, k) * (-middle) ** (power - k) / half**power
    return rounded(plain)


def rounded(coefficients: Sequence[float] | Array) -> tuple[float, ...]:
    """To `DIGITS` significant digits: far finer than any fixed point, and short in a plan."""
    return tuple(float(f"{c:.{DIGITS}g}") for c in coefficients)


def rounded_up(bound: float, digits: int = 2) -> float:
    """Away from zero to two significant digits: a short number in the plan, and sites share their fits."""
    if bound == 0.0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(bound))) + 1 - digits)
    return math.copysign(round(math.ceil(abs(bound) / unit - 1e-9) * unit, 12), bound)


def density(samples: Array, floor: float = 0.05, bins: int = 60) -> Function:
    """Where the values are: a smooth histogram of `samples` as a weight, 1 at its peak and never under `floor`."""
    counts, edges = np.histogram(samples, bins=bins)
    kernel = np.exp(-(np.linspace(-2, 2, 9) ** 2) / 2)
    smooth = np.convolve(np.pad(counts.astype(float), 4), kernel / kernel.sum(), mode="valid")
    middles = (edges[1:] + edges[:-1]) / 2
    peak = max(float(smooth.max()), 1e-300)
    return lambda x: floor + (1 - floor) * np.sqrt(np.interp(x, middles, smooth / peak, left=0.0, right=0.0))


def quantised(x: Array, degree: int, low: float | None = None, high: float | None = None) -> Array:
    """`x` as the engine sees it in a polynomial of that degree: 46/degree bits over [low, high], at most 2^-14 fine."""
    low, high = float(x.min()) if low is None else low, float(x.max()) if high is None else high
    step = max((high - low) * 2.0 ** -(POLYNOMIAL_BITS / max(degree, 1)), 2.0**-14)
    return np.asarray(np.round(x / step) * step)


def gelu(x: Array) -> Array:
    """x (1 + erf(x / sqrt 2)) / 2."""
    return np.asarray(x * 0.5 * (1 + erf(x / np.sqrt(2.0))))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return np.asarray(expit(x))


def silu(x: Array) -> Array:
    """x / (1 + exp(-x))."""
    return np.asarray(x * expit(x))


def tanh(x: Array) -> Array:
    """The hyperbolic tangent."""
    return np.asarray(np.tanh(x))


def exponential(x: Array) -> Array:
    """exp(x)."""
    return np.asarray(np.exp(x))


def logarithm(x: Array) -> Array:
    """log(x)."""
    return np.asarray(np.log(x))


def error_function(x: Array) -> Array:
    """erf(x)."""
    return np.asarray(erf(x))


def cosine(x: Array) -> Array:
    """cos(x)."""
    return np.asarray(np.cos(x))


def sine(x: Array) -> Array:
    """sin(x)."""
    return np.asarray(np.sin(x))


def hardsigmoid(x: Array) -> Array:
    """clamp(x + 3, 0, 6) / 6."""
    return np.asarray(np.clip(x + 3, 0, 6) / 6)


def hardswish(x: Array) -> Array:
    """x clamp(x + 3, 0, 6) / 6."""
    return np.asarray(x * hardsigmoid(x))


def softplus(x: Array) -> Array:
    """log(1 + exp(x))."""
    return np.asarray(np.logaddexp(0.0, x))


def mish(x: Array) -> Array:
    """x tanh(log(1 + exp(x)))."""
    return np.asarray(x * np.tanh(np.logaddexp(0.0, x)))


def expm1_below(x: Array) -> Array:
    """exp(x) - 1 below 0, 0 above: an ELU of alpha 1 without its ramp."""
    return np.asarray(np.expm1(np.minimum(x, 0.0)))
