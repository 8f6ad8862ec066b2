"""One correction of a rough inverse square root, from what is left when it is tried on the value itself.

    y about 1/sqrt(v), by a chain;   e = 1 - v y^2, multiplied out;   1/sqrt(v) = y + y s(e),   s(e) about (1 - e)^(-1/2) - 1

With s(e) = e / 2 this is Newton's step; here s is fitted to the e that the chain leaves. A chain computes its residuals
from the few bits that a polynomial's argument keeps. This e is that of the very y that is used, at the precision of
a product, and s(e) is small, so it is known finely: what y was rounded to does not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from . import factor_chains
from .factor_chains import Chain
from .minimax import Array, chebyshev_grid, evaluate, fit_points

PLANNED = (((4,), 1), ((4,), 2), ((4,), 3), ((1, 4), 1), ((1, 4), 3))
"""Degrees of the chain and of s, a round more each: the front is as sharp as its rounds allow, s as short."""
LONGER = tuple(((*(1,) * steps, 4), 4) for steps in range(2, 7))
"""For ranges of three to seven powers of ten, on which the planned ones leave more than ROUGH."""
ROUGH = 1e-2
ENOUGH = 1e-6
"""Relative error of the formula below which only fixed point is left."""


@dataclass(frozen=True)
class Corrected:
    """A chain and the coefficients of s; `error` is the largest relative one on the range, in float."""

    chain: Chain
    correction: tuple[float, ...]
    error: float


@cache
def fit_corrected(low: float, high: float, degrees: tuple[int, ...], degree: int) -> Corrected:
    """1/sqrt on [low, high] by a chain with factors of these degrees and an s of `degree`."""
    v, chain = chebyshev_grid(low, high), factor_chains.fit_chain("rsqrt", low, high, degrees)
    e = _residual(chain.stages, v)
    exact = (1 - e) ** -0.5
    correction = fit_points(e, exact - 1, 1 / exact, degree)
    return Corrected(chain, correction, float(np.abs(value(chain.stages, correction, v) * np.sqrt(v) - 1).max()))


def plan_corrected(low: float, high: float, roughest: float) -> list[Corrected]:
    """By rounds: those that a shorter one does not equal, and none behind the first whose formula is fine enough."""
    kept: list[Corrected] = []
    for degrees, degree in (*PLANNED, *LONGER):
        if (degrees, degree) in LONGER and kept and kept[-1].error <= ROUGH:
            break
        one = fit_corrected(low, high, degrees, degree)
        if one.error < (kept[-1].error / 2 if kept else roughest):
            kept.append(one)
        if kept and kept[-1].error < ENOUGH:
            break
    return kept


def value(stages: Sequence[Sequence[Sequence[float]]], correction: Sequence[float], v: Array) -> Array:
    """y + y s(e) at `v`; y where there is no correction."""
    y = factor_chains.value(stages, v)
    return y * (1 + evaluate(correction, _residual(stages, v))) if correction else y


def _residual(stages: Sequence[Sequence[Sequence[float]]], v: Array) -> Array:
    return np.asarray(1 - v * factor_chains.value(stages, v) ** 2)
