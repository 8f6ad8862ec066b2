"""GroupNorm with an inverse square root by a spline gate: one round for it, however the variances spread.

    x [batch, channels, ...] as [batch, groups, rest];  c = x - mean;  y = c / sqrt(mean(c^2) + eps) * weight + bias

As `layer_norm_grid`, over groups of channels; weight and bias are one number a channel.
"""

from __future__ import annotations

from typing import Any

import torch

from mpcc.approximate.grids import GridOption, norm_grid, normalised
from mpcc.ir import mpc

aten = torch.ops.aten


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
    shape = [int(size) for size in x.shape]
    groups = aten.reshape.default(x, [shape[0], num_groups, -1])
    y = aten.reshape.default(normalised(groups, (2,), eps, gain, grid, least), shape)
    column = [1, shape[1], *([1] * (len(shape) - 2))]
    y = y if weight is None else mpc.mul(y, aten.reshape.default(weight, column))
    return y if bias is None else mpc.add(y, aten.reshape.default(bias, column))


GROUP_NORM_GRID = norm_grid(group_norm_grid, "group_norm", "variance")
