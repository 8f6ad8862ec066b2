"""Softmax with the row maximum and a clipped exponential: what lies more than 14 below the maximum counts as 0.

    g = x - max(x);   e = [g >= -14] p(g)^m;   y = e / sum(e),   sum(e) in [1, N]

One comparison guards the exponential's range from below, so that no row leaves it: masked logits of -100 are zeros.
Source: PUMA (arXiv 2307.12533, section 4.3) and BumbleBee (NDSS 2025), which clip at -14 and -13; the fits are our own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.blocks import Stages, factors, largest, poly, positive_dim, power, product
from mpcc.approximate.families import softmax_candidates, softmax_error
from mpcc.fitting.exponentials import plan_exponentials
from mpcc.fitting.factor_chains import plan_chains
from mpcc.ir import mpc

CLIP = -14.0


def softmax_clip(
    x: Any,
    dim: int,
    *,
    start: Sequence[float],
    powers: Sequence[int],
    chain: Stages,
    low: float = CLIP,
    joined: bool = True,
    **recorded: Any,
) -> Any:
    """softmax(x) over `dim`, any shape."""
    dims = (positive_dim(x, dim),)
    gap = mpc.sub(x, largest(x, dims, keepdim=True))
    far = mpc.less(gap, low)
    near = mpc.add(mpc.sub(gap, mpc.select(far, gap)), mpc.scale(far, low))  # max(gap, low)
    e = power(poly(near, start), powers)
    e = mpc.sub(e, mpc.select(far, e))
    return product(e, factors(mpc.sum(e, dims, True), chain), joined=joined)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """Accurate first; then every pair of a shorter or longer exponential and reciprocal."""
    count = statistics.site.shape[statistics.site.attributes["dim"]]  # type: ignore[call-overload]
    if count < 2:
        return ()
    recorded = {"low": CLIP, "high": 0.0, "ratio": float(count)}
    exps = plan_exponentials(CLIP, 0.0, 1.0 / count)
    return softmax_candidates(exps, plan_chains("reciprocal", 1.0, float(count)), recorded)


def error(options: Options) -> float:
    """Bound on any weight's absolute error: that of the exponential and the reciprocal, and what was clipped."""
    clipped: float = options["ratio"] * math.exp(options["low"])
    return softmax_error(options, 1.0 / options["ratio"]) + clipped


SOFTMAX_CLIP = Approximation(
    name="softmax_clip",
    operator="softmax",
    level="bounded",
    source="PUMA, arXiv 2307.12533, section 4.3; BumbleBee, NDSS 2025",
    function=softmax_clip,
    candidates=candidates,
    error=error,
    layout="joined",
    summary="row maximum by a tree, exp clipped at -14, fitted reciprocal on [1, N]",
)
