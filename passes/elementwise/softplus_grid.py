"""Softplus by a spline gate (`mpcc.approximate.grids`): one round.

    softplus(x) = log(1 + exp(beta x)) / beta; 0 below, x above

torch's `threshold` switches to x where the curve already is x.
"""

from __future__ import annotations

from typing import Any

from mpcc.approximate import SiteStatistics
from mpcc.approximate.grids import GridOption, around, digits, elementwise_grid, on_grid
from mpcc.fitting.minimax import softplus
from mpcc.ir import mpc


def softplus_grid(x: Any, *, grid: GridOption, beta: float = 1.0, threshold: float = 20.0, **recorded: Any) -> Any:
    """softplus(x), any shape. The declared error is that for beta = 1; the grid is one of beta x."""
    return mpc.scale(on_grid(mpc.scale(x, beta), softplus, grid), 1.0 / beta)


def ends(statistics: SiteStatistics) -> tuple[float, float]:
    """The range of beta x."""
    beta = float(statistics.site.attributes.get("beta", 1.0))  # type: ignore[arg-type]
    low, high = sorted(beta * end for end in around(statistics))
    return digits(low), digits(high)


SOFTPLUS_GRID = elementwise_grid("softplus", softplus, function=softplus_grid, ends=ends)
