"""log(x) over any positive range: brought to [1, 2) by comparisons, a quartic, and a multiple of log 2 for each of them.

    u = x s in [1, 2), s a power of two over `low`;   log x = p(u) + log(low) + (octaves - 1) log 2 - log 2 sum_k [x < low 2^k]

One threshold for each factor of 2 in the range, all on one opening of x, as in `reciprocal_windowed`. The range is the
calibrated one widened by `margin`; outside it the result is p outside [1, 2). A comparison resolves 2^-16 of the range,
so a range of more than 2^12 has no candidate. Source of the normalisation: SPU (USENIX ATC 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from mpcc.approximate.elementwise import windowed
from mpcc.ir import mpc


def log_windowed(x: Any, *, low: float, octaves: int, coefficients: Sequence[float], **recorded: Any) -> Any:
    """log(x) for x in [low, low 2^octaves], any shape; coefficients of p on [1, 2]."""
    u, below = mpc.scale(x, 2.0 ** -(octaves - 1) / low), None
    for k in range(1, octaves):
        bit = mpc.less(x, low * 2.0**k)
        u = mpc.add(u, mpc.scale(mpc.select(bit, x), 2.0**-k / low))
        below = bit if below is None else mpc.add(below, bit)
    y = mpc.add(mpc.polynomial(u, tuple(coefficients)), math.log(low) + (octaves - 1) * math.log(2))
    return y if below is None else mpc.sub(y, mpc.scale(below, math.log(2)))


LOG_WINDOWED = windowed("log", torch.log, function=log_windowed, relative=False)
