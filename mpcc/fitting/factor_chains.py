"""Reciprocals and inverse square roots as chains of short polynomials, one opening each.

A chain approximates f(d) = 1/d (or 1/sqrt(d)) on [low, high] by a product of factors:

    y0 = p(d),   e1 = 1 - d y0     (1 - d y0^2 for the root): a polynomial of d, so the same opening gives it
    y1 = q(e1),  e2 = 1 - (1 - e1) y1 ...        q fitted to 1/(1 - e) (or its root) on e1's range
    f(d) = y0 y1 y2 ...

Each stage costs one round, whatever its degree up to 4. For the reciprocal with fitted stages the residual is a
Chebyshev polynomial composed of Chebyshev polynomials: degrees 2 and 4 leave the error of one of degree 14.
This is Goldschmidt's division with fitted instead of Taylor factors (R. E. Goldschmidt, 1964).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from .minimax import Array, chebyshev_grid, evaluate, fit_points, quantised, rounded

Stage = tuple[tuple[float, ...], tuple[float, ...]]
Kind = Literal["reciprocal", "rsqrt"]
Spread = tuple[float, ...]
"""Quantiles of the values, evenly spaced in probability: where an error matters."""
OUTSIDE = 20.0
LARGEST_DEGREE = 4
LONGEST = 8
ENOUGH = 2e-4  # what the bits of a degree-4 argument leave anyway


@dataclass(frozen=True)
class Chain:
    """Stages of (factor, residual) coefficients; the last residual is empty. Errors are relative.

    `error` is the largest of the formula on the whole range. `fixed_error` also counts the bits that a polynomial's
    argument keeps: the largest, or with a spread the root mean square over it.
    """

    degrees: tuple[int, ...]
    stages: tuple[Stage, ...]
    error: float
    fixed_error: float

    def to_json(self) -> list[list[list[float]]]:
        """As it is written into a plan."""
        return [[list(factor), list(residual)] for factor, residual in self.stages]


def root(kind: Kind) -> float:
    """The power of the argument: 1/d or 1/sqrt(d)."""
    return -1.0 if kind == "reciprocal" else -0.5


@cache
def fit_chain(kind: Kind, low: float, high: float, degrees: tuple[int, ...], spread: Spread | None = None) -> Chain:
    """The chain with factors of these degrees, fitted on [low, high]; with a `spread`, closest where most values are."""
    d = chebyshev_grid(low, high)
    front, argument = _front(kind, low, high, degrees[:-1])
    factor = _factor(kind, argument, degrees[-1], _weights(d, spread), first=len(degrees) == 1)
    stages, power = _tidy((*front, (factor, ()))), root(kind)
    error = float(np.abs(value(stages, d) / d**power - 1).max())
    seen = np.abs(value(stages, d, fixed_point=True) / d**power - 1)
    if spread is None:
        return Chain(degrees, stages, error, float(seen.max()))
    typical = np.interp(np.asarray(spread), d, seen)
    return Chain(degrees, stages, error, float(np.sqrt(np.square(typical).mean())))


def _weights(d: Array, spread: Spread | None) -> Array:
    """What a relative error costs at `d`: the root of the density of log d, at least 1/OUTSIDE of its largest."""
    if spread is None:
        return np.ones_like(d)
    places = np.log(np.asarray(spread))
    densities = 1 / np.maximum(np.diff(places), 1e-3)
    at = np.interp(np.log(d), (places[1:] + places[:-1]) / 2, densities, left=0.0, right=0.0)
    return np.asarray(np.maximum(np.sqrt(at / densities.max()), 1 / OUTSIDE))


def _tidy(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The same product, with a power of two for the slope of every straight factor: the last factor takes the rest.

    A straight factor is a scaling, whose scale then stays a power of two and meets others without rounding.
    """
    tidied, rest = [], 1.0
    for factor, residual in stages[:-1]:
        if len(factor) == 2 and factor[1] != 0.0:
            gain = 2.0 ** round(math.log2(abs(factor[1]))) / abs(factor[1])
            factor, rest = (factor[0] * gain, math.copysign(abs(factor[1]) * gain, factor[1])), rest / gain
        tidied.append((factor, residual))
    last = rounded([c * rest for c in stages[-1][0]])
    return (*tidied, (last, ()))


@cache
def _front(kind: Kind, low: float, high: float, degrees: tuple[int, ...]) -> tuple[tuple[Stage, ...], Array]:
    """All stages but the last, and the residual that they leave over the grid (the grid itself if there are none)."""
    d = chebyshev_grid(low, high)
    if not degrees:
        return (), d
    stages, argument = _front(kind, low, high, degrees[:-1])
    factor = _factor(kind, argument, degrees[-1], np.ones_like(d), first=not stages)
    residual = _residual(factor, kind, first=not stages)
    return (*stages, (factor, residual)), evaluate(residual, argument)


def _factor(kind: Kind, argument: Array, degree: int, weights: Array, *, first: bool) -> tuple[float, ...]:
    """The factor fitted where the argument lies: to d^power at first, to (1 - e)^power later."""
    exact = (argument if first else 1 - argument) ** root(kind)
    return fit_points(argument, exact, weights / exact, degree)


def _residual(factor: Sequence[float], kind: Kind, *, first: bool) -> tuple[float, ...]:
    """1 - u q(u)^k on the first stage, 1 - (1 - u) q(u)^k later; k is 1 for the reciprocal, 2 for the root."""
    q = np.asarray(factor)
    q = q if kind == "reciprocal" else np.convolve(q, q)
    residual = -np.convolve([0.0, 1.0] if first else [1.0, -1.0], q)
    residual[0] += 1.0
    return rounded(residual)


def value(stages: Sequence[Sequence[Sequence[float]]], d: Array, *, fixed_point: bool = False) -> Array:
    """The product of the factors at `d`; with `fixed_point`, arguments keep only the bits that the engine has."""
    result = np.ones_like(d)
    for factor, residual in stages:
        seen = quantised(d, max(len(factor), len(residual)) - 1) if fixed_point else d
        result = result * evaluate(factor, seen)
        d = evaluate(residual, seen) if residual else d
    return result


def _residual_degree(kind: Kind, degree: int) -> int:
    return degree + 1 if kind == "reciprocal" else 2 * degree + 1


@cache
def shapes(kind: Kind) -> list[tuple[int, ...]]:
    """Degrees of all chains whose residuals the engine can evaluate in the same opening, shortest first."""
    inner = [k for k in range(1, LARGEST_DEGREE + 1) if _residual_degree(kind, k) <= LARGEST_DEGREE]
    return [
        (*front, last)
        for length in range(LONGEST)
        for front in itertools.product(inner, repeat=length)
        for last in ((3, 4) if front else range(1, LARGEST_DEGREE + 1))
        if length < 2 or len(set(front)) == 1  # longer fronts of one degree only: the rest gains nothing
    ]


def plan_chains(
    kind: Kind, low: float, high: float, spread: Spread | None = None, enough: float = ENOUGH
) -> list[Chain]:
    """The chains worth having on [low, high], by number of stages: for each length the most accurate in fixed point.

    A longer chain is kept only if it takes a third off the error; none is longer than the first that is below `enough`.
    """
    kept: list[Chain] = []
    for _, group in itertools.groupby(shapes(kind), key=len):
        chains = (fit_chain(kind, low, high, degrees, spread) for degrees in group)
        best = min(chains, key=lambda chain: chain.fixed_error)
        if not kept or best.fixed_error < kept[-1].fixed_error / 1.5:
            kept.append(best)
        if kept[-1].fixed_error < enough or best.error < enough / 10:  # what is left is not the formula's
            break
    return kept


def choose_chain(kind: Kind, low: float, high: float, tolerance: float) -> Chain:
    """The shortest chain within the relative tolerance, or the most accurate one if none is."""
    chains = plan_chains(kind, low, high)
    return next((chain for chain in chains if chain.fixed_error <= tolerance), chains[-1])


def options_of(chain: Chain) -> dict[str, Any]:
    """The options that an approximation built on this chain records."""
    return {"chain": chain.to_json()}
