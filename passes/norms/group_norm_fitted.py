"""GroupNorm with an inverse square root fitted to this very layer's variances.

    x [batch, channels, ...] as [batch, groups, rest];  c = x - mean;  y = c / sqrt(mean(c^2) + eps) * weight + bias

As `layer_norm_fitted`, over groups of channels; weight and bias are one number a channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mpcc.approximate.blocks import Stages, scaled, times_rsqrt
from mpcc.approximate.families import fitted_norm
from mpcc.ir import mpc

aten = torch.ops.aten


def group_norm_fitted(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    num_groups: int,
    eps: float = 1e-5,
    chain: Stages,
    correction: Sequence[float] = (),
    joined: bool = True,
    gain: float = 1.0,
    **recorded: Any,
) -> Any:
    """group_norm of x [batch, channels, ...]; weight and bias [channels] may be absent."""
    shape = [int(size) for size in x.shape]
    groups = aten.reshape.default(x, [shape[0], num_groups, -1])
    centred = scaled(mpc.sub(groups, mpc.mean(groups, (2,), keepdim=True)), gain)
    variance = mpc.add(mpc.mean(mpc.square(centred), (2,), keepdim=True), eps * gain**2)
    y = aten.reshape.default(times_rsqrt(centred, variance, chain, correction, joined=joined), shape)
    column = [1, shape[1], *([1] * (len(shape) - 2))]
    y = y if weight is None else mpc.mul(y, aten.reshape.default(weight, column))
    return y if bias is None else mpc.add(y, aten.reshape.default(bias, column))


GROUP_NORM_FITTED = fitted_norm(group_norm_fitted, "group_norm", "variance")
