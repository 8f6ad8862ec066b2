"""log(x) over any positive range: brought to [1, 2) by comparisons, a quartic, and a multiple of log 2 for each of them.

    u = x s in [1, 2), s a power of two over `low`;   log x = p(u) + log(low) + (octaves - 1) log 2 - log 2 sum_k [x < low 2^k]

One threshold for each factor of 2 in the range, all on one opening of x, as in `reciprocal_windowed`. The range is the
calibrated one widened by `margin`; outside it the result is p outside [1, 2). A comparison resolves 2^-16 of the range,
so a range of more than 2^12 gets no member. Source of the normalisation: SPU (USENIX ATC 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from mpcc.approximate import Approximation, Domain, Options, SiteStatistics
from mpcc.approximate.piecewise import largest_error
from mpcc.fitting.minimax import fit_polynomial
from mpcc.ir import mpc

MARGIN = 1.5
WIDEST = 2.0**12


def log_windowed(x: Any, *, low: float, octaves: int, coefficients: Sequence[float], **recorded: Any) -> Any:
    """log(x) for x in [low, low 2^octaves], any shape; coefficients of p on [1, 2]."""
    u, below = mpc.scale(x, 2.0 ** -(octaves - 1) / low), None
    for k in range(1, octaves):
        bit = mpc.less(x, low * 2.0**k)
        u = mpc.add(u, mpc.scale(mpc.select(bit, x), 2.0**-k / low))
        below = bit if below is None else mpc.add(below, bit)
    y = mpc.add(mpc.polynomial(u, tuple(coefficients)), math.log(low) + (octaves - 1) * math.log(2))
    return y if below is None else mpc.sub(y, mpc.scale(below, math.log(2)))


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """A quartic and a quadratic; only for positive x in a range that a comparison resolves."""
    seen = statistics.ranges["input"]
    if seen.low <= 0 or seen.high * MARGIN**2 / seen.low > WIDEST:
        return ()
    low = float(f"{seen.low / MARGIN:.3g}")
    octaves = max(1, math.ceil(math.log2(seen.high * MARGIN / low)))
    fits = [fit_polynomial(np.log, 1.0, 2.0, degree).coefficients for degree in (4, 2)]
    return tuple({"low": low, "octaves": octaves, "coefficients": list(c), "margin": MARGIN} for c in fits)


def error(options: Options) -> float:
    """Largest absolute error on the fitted range."""
    low, high = options["low"], options["low"] * 2 ** options["octaves"]
    edges = [low * 2.0**k for k in range(1, options["octaves"])]
    return largest_error(partial(log_windowed, **options), torch.log, low, high, edges)


def domain(options: Options) -> Domain:
    """`octaves` doublings from `low`."""
    return {"input": (options["low"], options["low"] * 2.0 ** options["octaves"])}


LOG_WINDOWED = Approximation(
    name="log_windowed",
    operator="log",
    level="bounded",
    source="SPU's normalisation by comparisons",
    function=log_windowed,
    candidates=candidates,
    error=error,
    domain=domain,
    summary="brought to [1, 2) by comparisons, then a polynomial: any range, a fixed number of rounds",
)
