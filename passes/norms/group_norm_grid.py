"""GroupNorm with an inverse square root by a spline gate: one round for it, however the variances spread.

    x [batch, channels, ...] as [batch, groups, rest];  c = x - mean;  y = c / sqrt(mean(c^2) + eps) * weight + bias

As `layer_norm_grid`, over groups of channels; weight and bias are one number a channel.
"""

from __future__ import annotations

from typing import Any

from mpcc.approximate.blocks import group_normed
from mpcc.approximate.grids import GridOption, norm_grid, normalised


def group_norm_grid(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    num_groups: int,
    eps: float = 1e-5,
    grid: GridOption,
    least: float,
    gain: float = 1.0,
    **recorded: Any,
) -> Any:
    """group_norm of x [batch, channels, ...]; weight and bias [channels] may be absent."""
    return group_normed(x, num_groups, weight, bias, lambda rows: normalised(rows, (2,), eps, gain, grid, least))


GROUP_NORM_GRID = norm_grid(group_norm_grid, "group_norm", "variance")
