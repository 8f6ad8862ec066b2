"""Softmax with the true row maximum: by a tree of comparisons, its value only.

    g = x - max(x)  in [low, 0];   e = p(g)^m;   d = sum(e)  in [1, N];   y = e / d

The denominator needs no calibration: it is between 1 and N whatever the row. 3 ceil(log2 N) rounds for the maximum.
Below `low` (calibrated on logits stretched by `margin`) p^m is flat: small where it should be smaller.

As in PUMA (arXiv 2307.12533) and BumbleBee (NDSS 2025), with a fitted exponential and reciprocal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.blocks import Stages, factors, largest, poly, positive_dim, power, product
from mpcc.approximate.families import between, softmax_candidates, softmax_error
from mpcc.fitting.exponentials import plan_exponentials
from mpcc.fitting.factor_chains import plan_chains
from mpcc.fitting.minimax import rounded_up
from mpcc.ir import mpc

WIDEST = 120.0


def softmax_max(
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
    e = power(poly(mpc.sub(x, largest(x, dims, keepdim=True)), start), powers)
    return product(e, factors(mpc.sum(e, dims, True), chain), joined=joined)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """Accurate first; then every pair of a shorter or longer exponential and reciprocal."""
    low = rounded_up(statistics.ranges["gap"].low)
    count = statistics.site.shape[statistics.site.attributes["dim"]]  # type: ignore[call-overload]
    if -low > WIDEST or count < 2:
        return ()
    recorded = {"low": low, "high": 0.0, "ratio": float(count), "margin": statistics.stretch}
    exps = plan_exponentials(low, 0.0, 1.0 / count)
    return softmax_candidates(exps, plan_chains("reciprocal", 1.0, float(count)), recorded)


def error(options: Options) -> float:
    """Bound on any weight's absolute error."""
    return softmax_error(options, 1.0 / options["ratio"])


SOFTMAX_MAX = Approximation(
    name="softmax_max",
    operator="softmax",
    level="bounded",
    source="PUMA, arXiv 2307.12533, section 4.3; BumbleBee, NDSS 2025; fits of our own",
    function=softmax_max,
    candidates=candidates,
    error=error,
    preference=3,
    layout="joined",
    domain=between("gap"),
    summary="row maximum by a tree, p(x)^m for exp, fitted reciprocal on [1, N]",
)
