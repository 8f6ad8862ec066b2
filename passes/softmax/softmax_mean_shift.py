"""Softmax without a maximum: subtract the row's mean, a short exponential, one reciprocal a row.

    c = x - mean(x)                     local; sum(exp(c)) >= N by Jensen's inequality, however low the row's maximum
    e = p(c)^m                          exp, fitted to the calibrated range of c (mpcc.fitting.exponentials)
    d = mean(e)   in [1, R]             R calibrated
    y = e (1/d) / N                     1/d as a chain of polynomials (mpcc.fitting.factor_chains), one reciprocal a row

A masked softmax takes both means over what the row sees, and drops the exponentials of the rest (`mask`).

Outside the fitted range: p^m stays positive and flat for lower c and grows more slowly than exp for higher c, so the
ratios degrade first; d above R leaves the reciprocal's domain and the row is wrong. `low`, `high` and `ratio` in the
options are the fitted ranges, calibrated on logits that are stretched by `margin`.

The mean shift is exact. The idea of a bound on the denominator without a maximum: this project's prototype.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpcc.approximate import Approximation, Domain, Options, SiteStatistics
from mpcc.approximate.blocks import RowMask, Stages, poly, positive_dim, power, row_mean, share
from mpcc.approximate.families import softmax_candidates, softmax_error
from mpcc.fitting.exponentials import plan_exponentials
from mpcc.fitting.factor_chains import plan_chains
from mpcc.fitting.minimax import rounded_up
from mpcc.ir import mpc

WIDEST = 60.0  # beyond this the rows are masked or saturated: no short polynomial spans them
STEEPEST = 400.0  # beyond this the reciprocal needs five stages, and the sum has too many digits before the point


def softmax_mean_shift(
    x: Any,
    dim: int,
    *,
    start: Sequence[float],
    powers: Sequence[int],
    chain: Stages,
    joined: bool = True,
    mask: RowMask | None = None,
    **recorded: Any,
) -> Any:
    """softmax(x) over `dim`, any shape; `mask` is the mask (shape, bits) of what each row sees."""
    dims = (positive_dim(x, dim),)
    centred = mpc.sub(x, row_mean(x, dims, mask))
    e = power(poly(mpc.apply_mask(centred, *mask) if mask else centred, start), powers)
    return share(mpc.apply_mask(e, *mask) if mask else e, dims, chain, joined=joined, mask=mask)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """Accurate first; then cheaper exponentials and reciprocals. None where the rows are too wide."""
    centred, ratio = statistics.ranges["centred"], statistics.ranges["denominator"].high
    if centred.high - centred.low > WIDEST or ratio > STEEPEST:
        return ()
    low, high, ratio = rounded_up(centred.low), rounded_up(centred.high), rounded_up(ratio)
    ranges = {"low": low, "high": high, "ratio": ratio, "margin": statistics.stretch}
    return softmax_candidates(plan_exponentials(low, high), plan_chains("reciprocal", 1.0, ratio), ranges)


def error(options: Options) -> float:
    """Bound on any weight's absolute error."""
    return softmax_error(options, 1.0)


def domain(options: Options) -> Domain:
    """What exp was fitted to, and the largest denominator; Jensen's inequality guards the smallest."""
    return {"centred": (options["low"], options["high"]), "denominator": (1.0, options["ratio"])}


SOFTMAX_MEAN_SHIFT = Approximation(
    name="softmax_mean_shift",
    operator="softmax",
    level="bounded",
    source="fitted to the site; bound by Jensen's inequality",
    function=softmax_mean_shift,
    candidates=candidates,
    error=error,
    preference=1,
    layout="joined",
    domain=domain,
    summary="row mean instead of row maximum, p(x)^m for exp, fitted reciprocal",
)
