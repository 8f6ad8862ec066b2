"""1/sqrt(x) as a chain of polynomials (mpcc.fitting.factor_chains): one round a stage, and one more for the products.

Fitted to the calibrated range (`low`, `high`, widened by the factor `margin` on both sides), which must not touch 0.
RangeViolation it a chain of one stage degrades gently; of several stages it is wrong far beyond the range.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.blocks import Stages, factors
from mpcc.approximate.families import first_within, signed_input
from mpcc.approximate.piecewise import largest_error
from mpcc.fitting.factor_chains import options_of, plan_chains
from mpcc.ir import mpc

MARGIN = 1.25
TOLERANCE, ROUGHEST = 1e-3, 0.1


def rsqrt_fitted(x: Any, *, chain: Stages, sign: float = 1.0, **recorded: Any) -> Any:
    """1/sqrt(x), any shape."""
    terms = factors(x, chain)
    for term in terms[1:]:
        terms[0] = mpc.mul(terms[0], term)
    return terms[0]


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """By the number of stages, the accurate default first; none where the range touches 0."""
    seen = statistics.ranges["input"]
    sign = 1.0 if seen.low > 0 else -1.0
    ends = sorted((sign * seen.low, sign * seen.high))
    if ends[0] <= 0 or sign < 0:
        return ()
    low, high = float(f"{ends[0] / MARGIN:.3g}"), float(f"{ends[1] * MARGIN:.3g}")
    chains = [chain for chain in plan_chains("rsqrt", low, high) if chain.error < ROUGHEST]
    recorded = {"sign": sign, "low": low, "high": high, "margin": MARGIN}
    return tuple({**options_of(chain), **recorded} for chain in first_within(chains, TOLERANCE))


def error(options: Options) -> float:
    """Largest absolute error on the fitted range."""
    curve = partial(rsqrt_fitted, **{**options, "sign": 1.0})
    return largest_error(curve, torch.rsqrt, options["low"], options["high"])


RSQRT_FITTED = Approximation(
    name="rsqrt_fitted",
    operator="rsqrt",
    level="bounded",
    source="fitted to the site",
    function=rsqrt_fitted,
    candidates=candidates,
    error=error,
    domain=signed_input,
    summary="a chain of polynomials on the calibrated range",
)
