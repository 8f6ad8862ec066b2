"""LayerNorm with an inverse square root fitted to this very layer's variances.

    c = x - mean(x);  v = mean(c^2) + eps;  y = c / sqrt(v) * weight + bias

1/sqrt(v) is a chain of polynomials on the calibrated range of v (mpcc.rewrite.chains): one stage where the variances
span a factor of 2 or so, two or three where they span 10 or 100. c is opened once, for its square and for the product.

Outside the fitted range of v (`low`, `high`, the calibrated one widened by the factor `margin` on both sides): a chain
of one stage degrades gently; of several stages it is wrong far beyond the range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpcc.ir import mpc
from mpcc.rewrite import Approximation, Options, SiteStatistics, chains
from mpcc.rewrite.fit import chebyshev_grid

from ._forms import Stages, factors, product

MARGIN = 1.25


def layer_norm_fitted(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    normalized_shape: Sequence[int],
    eps: float,
    chain: Stages,
    joined: bool = True,
    **recorded: Any,
) -> Any:
    """layer_norm over the last len(normalized_shape) dimensions; weight and bias may be absent."""
    rank = len(x.shape)
    dims = tuple(range(rank - len(normalized_shape), rank))
    centred = mpc.sub(x, mpc.mean(x, dims, keepdim=True))
    variance = mpc.add(mpc.mean(mpc.square(centred), dims, keepdim=True), eps)
    y = product(centred, factors(variance, chain), joined=joined)
    y = y if weight is None else mpc.mul(y, weight)
    return y if bias is None else mpc.add(y, bias)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """By the number of stages, the most accurate first; each with the stages joined and applied one by one."""
    return chain_members(statistics, "variance")


def chain_members(statistics: SiteStatistics, quantity: str) -> tuple[Options, ...]:
    """Members that differ in their chain for 1/sqrt of the named quantity."""
    seen = statistics.ranges[quantity]
    few = 1 + 2.5 * min(1.0, (64 / max(1, len(statistics.samples[quantity]))) ** 0.5)  # few samples, wide margin
    low, high = _digits(seen.low / (MARGIN * few)), _digits(seen.high * MARGIN * few**0.5)
    chosen = chains.choose_chain("rsqrt", low, high, 1e-3)
    members = [chosen, *(chain for chain in chains.plan_chains("rsqrt", low, high) if chain != chosen)]
    ranges = {"low": low, "high": high, "margin": MARGIN}
    return tuple(
        {**chains.options_of(chain), **ranges, "joined": joined}
        for chain in members
        if chain.error < 0.1
        for joined in ((True, False) if len(chain.stages) > 1 else (True,))
    )


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def error(options: Options) -> float:
    """Largest absolute error for one normalised element within 8 standard deviations, weight 1: 8 * relative error."""
    return 8 * relative_error(options)


def relative_error(options: Options) -> float:
    """Of 1/sqrt(v) on the fitted range."""
    v = np.exp(chebyshev_grid(math.log(options["low"]), math.log(options["high"]), 4001))
    return float(np.abs(chains.value(options["chain"], v) * np.sqrt(v) - 1).max())


LAYER_NORM_FITTED = Approximation(
    name="layer_norm_fitted",
    operator="layer_norm",
    level="bounded",
    source="fitted to the site",
    function=layer_norm_fitted,
    candidates=candidates,
    error=error,
    summary="1/sqrt(variance) by polynomials on the calibrated range",
)
