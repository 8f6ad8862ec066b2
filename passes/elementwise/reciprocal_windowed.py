"""1/x over any positive range in seven rounds: brought to [1, 2) by comparisons, a quartic, brought back.

    s = the power of two with x s in [1, 2), as a sum of selected differences;   u = x s;   1/x = s p(u)

One threshold for each factor of 2 in the range, all on one opening of x; as SPU's normalisation, without bit
decomposition. The range is the calibrated one widened by `margin`; below it the result stays near 1/low, above it is p
outside [1, 2). A comparison resolves 2^-16 of the range, so a range of more than 2^12 has no candidate.

Source of the normalisation: Catrina and Saxena, Financial Cryptography 2010; SPU (USENIX ATC 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mpcc.approximate.elementwise import windowed
from mpcc.ir import mpc


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


RECIPROCAL_WINDOWED = windowed("reciprocal", torch.reciprocal, function=reciprocal_windowed, relative=True)
