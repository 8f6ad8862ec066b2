"""GELU without a comparison: x/2 + E(x^2) on the calibrated range, fitted to the site's distribution. Two rounds.

    E of degree 1 to 4 in x^2: a polynomial of degree 2 to 8; one round where it is of degree 2 or 4

Outside the range it leaves GELU like its highest power: `low` and `high` are the calibrated range widened by `margin`.
For narrow sites; wide ones are several tenths off and have no such candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.blocks import poly
from mpcc.approximate.families import between, error_on_range
from mpcc.fitting.minimax import Array, density, fit_polynomial, gelu
from mpcc.ir import mpc

MARGIN = 1.25
ROUGHEST = 0.25


def gelu_polynomial(x: Any, *, coefficients: Sequence[float], **recorded: Any) -> Any:
    """x/2 + E(x^2), any shape; `coefficients` are those of E."""
    if len(coefficients) == 3:  # degree 4 in x: one opening, one round
        return mpc.polynomial(x, (coefficients[0], 0.5, coefficients[1], 0.0, coefficients[2]))
    return mpc.add(poly(mpc.square(x), coefficients), mpc.scale(x, 0.5))


error = error_on_range(gelu_polynomial, torch.nn.functional.gelu)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """Degrees 4, 3, 2, 1 in x^2, each fitted to the distribution; those that are near enough on the whole range."""
    seen, x = statistics.ranges["input"].widened(MARGIN), statistics.samples["input"].numpy()
    bound = float(f"{seen.bound:.3g}")
    spread = density(np.abs(x))

    def weight(u: Array) -> Array:
        return spread(np.sqrt(u))

    found: list[Options] = []
    for degree in (4, 3, 2, 1):
        fit = fit_polynomial(
            lambda u: gelu(np.sqrt(u)) - np.sqrt(u) / 2, 0.0, bound**2, degree, weight=weight, iterations=4
        )
        candidate = {"coefficients": list(fit.coefficients), "low": -bound, "high": bound, "margin": MARGIN}
        if error(candidate) < ROUGHEST:
            found.append(candidate)
    return tuple(found)


GELU_POLYNOMIAL = Approximation(
    name="gelu_polynomial",
    operator="gelu",
    level="bounded",
    source="fitted to the site",
    function=gelu_polynomial,
    candidates=candidates,
    error=error,
    domain=between("input"),
    summary="an even polynomial plus x/2 on the calibrated range, no comparison",
)
