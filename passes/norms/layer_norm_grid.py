"""LayerNorm with an inverse square root by a spline gate: one round for it, however the variances spread.

    c = x - mean(x);  v = mean(c^2) + eps;  y = c / sqrt(v) * weight + bias

c is opened once, for its square and for the product. Where variances are small, c is taken times `gain` (a power of two, which
only changes a scale), as y does not depend on it. The grid begins at 0 where the range allows it, so that a row of less variance
than was seen comes out too small; above the calibrated range, widened, it is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpcc.approximate.grids import GridOption, norm_grid, normalised
from mpcc.ir import mpc


def layer_norm_grid(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    normalized_shape: Sequence[int],
    eps: float,
    grid: GridOption,
    least: float,
    gain: float = 1.0,
    **recorded: Any,
) -> Any:
    """layer_norm over the last len(normalized_shape) dimensions; weight and bias may be absent."""
    rank = len(x.shape)
    y = normalised(x, tuple(range(rank - len(normalized_shape), rank)), eps, gain, grid, least)
    y = y if weight is None else mpc.mul(y, weight)
    return y if bias is None else mpc.add(y, bias)


LAYER_NORM_GRID = norm_grid(layer_norm_grid, "layer_norm", "variance")
