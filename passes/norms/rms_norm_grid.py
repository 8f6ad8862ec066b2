"""RMSNorm with an inverse root by a spline gate: one round for it, however the mean squares spread.

    m = mean(x^2) + eps;  y = x / sqrt(m) * weight

As `layer_norm_grid`, without the mean: x is opened once for its square and for the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mpcc.approximate.grids import GridOption, norm_grid, normalised
from mpcc.ir import mpc


def rms_norm_grid(
    x: Any,
    weight: Any = None,
    *,
    normalized_shape: Sequence[int],
    eps: float | None = None,
    grid: GridOption,
    least: float,
    gain: float = 1.0,
    **recorded: Any,
) -> Any:
    """rms_norm over the last len(normalized_shape) dimensions; weight may be absent."""
    rank = len(x.shape)
    small = torch.finfo(x.dtype).eps if eps is None else eps
    y = normalised(x, tuple(range(rank - len(normalized_shape), rank)), small, gain, grid, least, centre=False)
    return y if weight is None else mpc.mul(y, weight)


RMS_NORM_GRID = norm_grid(rms_norm_grid, "rms_norm", "mean_square")
