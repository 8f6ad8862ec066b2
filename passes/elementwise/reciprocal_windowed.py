"""1/x over any positive range in seven rounds: brought to [1, 2) by comparisons, a quartic, brought back.

    s = the power of two with x s in [1, 2), as a sum of selected differences;   u = x s;   1/x = s p(u)

One threshold for each factor of 2 in the range, all on one opening of x; as SPU's normalisation, without bit
decomposition. The range is the calibrated one widened by `margin`; below it the result stays near 1/low, above it is p
outside [1, 2). A comparison resolves 2^-16 of the range, so a range of more than 2^12 gets no member.

Source of the normalisation: Catrina and Saxena, Financial Cryptography 2010; SPU (USENIX ATC 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from mpcc.approximate import Approximation, Domain, Options, SiteStatistics
from mpcc.approximate.piecewise import largest_error
from mpcc.fitting.minimax import fit_polynomial
from mpcc.ir import mpc

MARGIN = 1.5
WIDEST = 2.0**12


def reciprocal_windowed(x: Any, *, low: float, octaves: int, coefficients: Sequence[float], **recorded: Any) -> Any:
    """1/x for x in [low, low 2^octaves], any shape; coefficients of p on [1, 2]."""
    s, u = None, mpc.scale(x, 2.0 ** -(octaves - 1) / low)
    for k in range(1, octaves):
        bit, step = mpc.less(x, low * 2.0**k), (2.0**-k) / low  # from 2^-k to 2^-(k-1) where x is below 2^k
        u = mpc.add(u, mpc.scale(mpc.select(bit, x), step))
        s = mpc.scale(bit, step) if s is None else mpc.add(s, mpc.scale(bit, step))
    value = mpc.polynomial(u, tuple(coefficients))
    last = 2.0 ** -(octaves - 1) / low
    return mpc.scale(value, last) if s is None else mpc.mul(mpc.add(s, last), value)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """A quartic and a quadratic; only for positive x in a range that a comparison resolves."""
    seen = statistics.ranges["input"]
    if seen.low <= 0 or seen.high * MARGIN**2 / seen.low > WIDEST:
        return ()
    low = float(f"{seen.low / MARGIN:.3g}")
    octaves = max(1, math.ceil(math.log2(seen.high * MARGIN / low)))
    fits = [fit_polynomial(lambda u: 1 / u, 1.0, 2.0, degree, relative=True).coefficients for degree in (4, 2)]
    return tuple({"low": low, "octaves": octaves, "coefficients": list(c), "margin": MARGIN} for c in fits)


def error(options: Options) -> float:
    """Largest absolute error on the fitted range."""
    low, high = options["low"], options["low"] * 2 ** options["octaves"]
    edges = [low * 2.0**k for k in range(1, options["octaves"])]
    return largest_error(partial(reciprocal_windowed, **options), torch.reciprocal, low, high, edges)


def domain(options: Options) -> Domain:
    """`octaves` doublings from `low`."""
    return {"input": (options["low"], options["low"] * 2.0 ** options["octaves"])}


RECIPROCAL_WINDOWED = Approximation(
    name="reciprocal_windowed",
    operator="reciprocal",
    level="bounded",
    source="SPU's normalisation by comparisons",
    function=reciprocal_windowed,
    candidates=candidates,
    error=error,
    domain=domain,
    summary="brought to [1, 2) by comparisons, then a polynomial: any range, a fixed number of rounds",
)
