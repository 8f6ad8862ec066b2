"""Softmax without a maximum: subtract the row's mean, a short exponential, one reciprocal a row.

    c = x - mean(x)                     local; sum(exp(c)) >= N by Jensen's inequality, however low the row's maximum
    e = p(c)^m                          exp, fitted to the calibrated range of c (mpcc.rewrite.exponentials)
    d = mean(e)   in [1, R]             R calibrated
    y = e (1/d) / N                     1/d as a chain of polynomials (mpcc.rewrite.chains), one reciprocal a row

Outside the fitted range: p^m stays positive and flat for lower c and grows more slowly than exp for higher c, so the
ratios degrade first; d above R leaves the reciprocal's domain and the row is wrong. `low`, `high` and `ratio` in the
options are the fitted ranges, calibrated ones widened by `margin`.

The mean shift is exact. The idea of a bound on the denominator without a maximum: this project's prototype.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpcc.ir import mpc
from mpcc.rewrite import Approximation, Options, SiteStatistics, chains, exponentials
from mpcc.rewrite.fit import chebyshev_grid

from ._forms import Stages, factors, poly, positive_dim, power, product

MARGIN = 1.25
ROUGHEST = 0.1
WIDEST = 60.0  # beyond this the rows are masked or saturated: no short polynomial spans them


def softmax_mean_shift(
    x: Any,
    dim: int,
    *,
    start: Sequence[float],
    powers: Sequence[int],
    chain: Stages,
    joined: bool = True,
    **recorded: Any,
) -> Any:
    """softmax(x) over `dim`, any shape."""
    dims = (positive_dim(x, dim),)
    centred = mpc.sub(x, mpc.mean(x, dims, keepdim=True))
    e = power(poly(centred, start), powers)
    d = mpc.mean(e, dims, keepdim=True)
    return mpc.scale(product(e, factors(d, chain), joined=joined), 1.0 / int(x.shape[dims[0]]))


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """Accurate first; then cheaper exponentials and reciprocals. None where the rows are too wide."""
    centred = statistics.ranges["centred"].widened(MARGIN)
    ratio = 1 + (statistics.ranges["denominator"].high - 1) * MARGIN
    if centred.high - centred.low > WIDEST:
        return ()
    low, high, ratio = round(centred.low, 3), round(centred.high, 3), round(ratio, 3)
    exps = exponentials.plan_exponentials(low, high)
    recips = chains.plan_chains("reciprocal", 1.0, ratio)
    first = (exponentials.choose_exponential(low, high, 3e-3), chains.choose_chain("reciprocal", 1.0, ratio, 1e-3))
    others = [(e, r) for e in exps for r in recips if (e, r) != first and e.error < ROUGHEST and r.error < ROUGHEST]
    pairs = [first, *others]
    ranges = {"low": low, "high": high, "ratio": ratio, "margin": MARGIN}
    members = [{**exponentials.options_of(e), **chains.options_of(r), **ranges} for e, r in pairs]
    return tuple({**member, "joined": joined} for member in members for joined in (True, False))


def error(options: Options) -> float:
    """Bound on any weight's absolute error: 2 delta / (1 - 2 delta) from exp, and the reciprocal's relative error."""
    x = chebyshev_grid(options["low"], options["high"], 4001)
    delta = exponentials.error(options["start"], options["powers"], x, softmax=True)
    d = chebyshev_grid(1.0, options["ratio"], 4001)
    relative = float(np.abs(chains.value(options["chain"], d) * d - 1).max())
    if delta >= 0.25:
        return 1.0
    return (1 + relative) * (1 + 2 * delta / (1 - 2 * delta)) - 1


SOFTMAX_MEAN_SHIFT = Approximation(
    name="softmax_mean_shift",
    operator="softmax",
    level="bounded",
    source="fitted to the site; bound by Jensen's inequality",
    function=softmax_mean_shift,
    candidates=candidates,
    error=error,
    summary="row mean instead of row maximum, p(x)^m for exp, fitted reciprocal",
)
