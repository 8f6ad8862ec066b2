"""ELU (CELU, SELU) by a spline gate (`mpcc.approximate.grids`): one round.

    elu(x) = scale (max(x, 0) + alpha (exp(input_scale min(x, 0)) - 1)) = scale alpha curve(input_scale x)
    curve(u) = exp(u) - 1 below 0, u / (alpha input_scale) above

ELU of alpha 1 and CELU are smooth; SELU and ELU of another alpha have a kink at 0, which takes many pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.grids import KINKED, MARGIN, TOLERANCES, GridOption, around, digits, grid_of, on_grid, range_of
from mpcc.fitting.grids import grids, largest_error
from mpcc.ir import mpc


@dataclass(frozen=True)
class Bent:
    """exp(u) - 1 below 0, `slope` times u above."""

    slope: float

    def __call__(self, u: Any) -> Any:
        return np.expm1(np.minimum(u, 0.0)) + self.slope * np.maximum(u, 0.0)

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where its slope jumps."""
        return () if self.slope == 1.0 else (0.0,)


def slope_of(alpha: float, input_scale: float) -> float:
    """Of the part above 0; exactly 1 where both are each other's inverse but for rounding."""
    slope = 1.0 / (alpha * input_scale)
    return 1.0 if abs(slope - 1.0) < 1e-6 else slope


def elu_grid(
    x: Any, *, grid: GridOption, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0, **recorded: Any
) -> Any:
    """elu(x), any shape; the grid is one of input_scale x. The declared error is that for alpha scale = 1."""
    y = on_grid(mpc.scale(x, input_scale), Bent(slope_of(alpha, input_scale)), grid)
    return mpc.scale(y, alpha * scale)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """None where the curve is not one: an alpha or input_scale that is not above 0."""
    alpha, factor = (float(statistics.site.attributes.get(name, 1.0)) for name in ("alpha", "input_scale"))  # type: ignore[arg-type]
    if alpha <= 0 or factor <= 0:
        return ()
    curve = Bent(slope_of(alpha, factor))
    low, high = (digits(factor * end) for end in around(statistics))
    found = grids(curve, low, high, KINKED if curve.kinks else TOLERANCES, kinks=curve.kinks)
    return tuple({"grid": grid.to_json(), "margin": MARGIN, "factor": factor, "slope": curve.slope} for grid in found)


def error(options: Options) -> float:
    """The largest error of the curve."""
    curve = Bent(options["slope"])
    return largest_error(curve, grid_of(options["grid"]), kinks=curve.kinks)


ELU_GRID = Approximation(
    name="elu_grid",
    operator="elu",
    level="bounded",
    source="fitted to the site",
    function=elu_grid,
    candidates=candidates,
    error=error,
    domain=lambda options: {"input": tuple(end / options["factor"] for end in range_of(options["grid"]))},
    gate=True,
    summary="one round: pieces of a grid over the calibrated range, none of which needs a comparison",
)
