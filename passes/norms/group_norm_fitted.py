"""GroupNorm with an inverse square root fitted to this very layer's variances.

    x [batch, channels, ...] as [batch, groups, rest];  c = x - mean;  y = c / sqrt(mean(c^2) + eps) * weight + bias

As `layer_norm_fitted`, over groups of channels; weight and bias are one number a channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpcc.approximate.blocks import Stages, group_normed, scaled, times_rsqrt
from mpcc.approximate.families import fitted_norm
from mpcc.ir import mpc


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

    def normed(rows: Any) -> Any:
        centred = scaled(mpc.sub(rows, mpc.mean(rows, (2,), keepdim=True)), gain)
        variance = mpc.add(mpc.mean(mpc.square(centred), (2,), keepdim=True), eps * gain**2)
        return times_rsqrt(centred, variance, chain, correction, joined=joined)

    return group_normed(x, num_groups, weight, bias, normed)


GROUP_NORM_FITTED = fitted_norm(group_norm_fitted, "group_norm", "variance")
