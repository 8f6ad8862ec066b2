"""SiLU without a comparison, where values are small: x/2 + E(x^2), a quartic. One round.

    x sigmoid(x) = x/2 + x tanh(x/2) / 2, whose second term is even; E of degree 2 or 1 in x^2

Only where that is as near on the calibrated range as a spline is, whose error of a few thousandths is much of a small
value. Outside the range (`low`, `high`, the calibrated one widened by `margin`) it leaves SiLU like its highest power.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.families import between, error_on_range
from mpcc.fitting.minimax import fit_polynomial, silu
from mpcc.ir import mpc

MARGIN = 1.5
ROUGHEST = 1e-3


def silu_polynomial(x: Any, *, coefficients: Sequence[float], **recorded: Any) -> Any:
    """x/2 + E(x^2), any shape; `coefficients` are those of E."""
    constant, square, *fourth = coefficients
    return mpc.polynomial(x, (constant, 0.5, square, *((0.0, *fourth) if fourth else ())))


error = error_on_range(silu_polynomial, torch.nn.functional.silu)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """The quartic, then the quadratic."""
    bound = float(f"{statistics.ranges['input'].widened(MARGIN).bound:.3g}")
    found: list[Options] = []
    for degree in (2, 1):
        fit = fit_polynomial(lambda u: silu(np.sqrt(u)) - np.sqrt(u) / 2, 0.0, bound**2, degree)
        candidate = {"coefficients": list(fit.coefficients), "low": -bound, "high": bound, "margin": MARGIN}
        if error(candidate) < ROUGHEST:
            found.append(candidate)
    return tuple(found)


SILU_POLYNOMIAL = Approximation(
    name="silu_polynomial",
    operator="silu",
    level="bounded",
    source="fitted to the site",
    function=silu_polynomial,
    candidates=candidates,
    error=error,
    domain=between("input"),
    summary="an even quartic plus x/2 on a small calibrated range, no comparison",
)
