"""RMSNorm with an inverse root fitted to this very layer's mean squares.

    m = mean(x^2) + eps;  y = x / sqrt(m) * weight

As `layer_norm_fitted`, without the mean: x is opened once for its square and for the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mpcc.approximate.blocks import Stages, scaled, times_rsqrt
from mpcc.approximate.families import fitted_norm
from mpcc.ir import mpc


def rms_norm_fitted(
    x: Any,
    weight: Any = None,
    *,
    normalized_shape: Sequence[int],
    eps: float | None = None,
    chain: Stages,
    correction: Sequence[float] = (),
    joined: bool = True,
    gain: float = 1.0,
    **recorded: Any,
) -> Any:
    """rms_norm over the last len(normalized_shape) dimensions; weight may be absent."""
    rank = len(x.shape)
    dims = tuple(range(rank - len(normalized_shape), rank))
    small = torch.finfo(x.dtype).eps if eps is None else eps
    x = scaled(x, gain)
    mean_square = mpc.add(mpc.mean(mpc.square(x), dims, keepdim=True), small * gain**2)
    y = times_rsqrt(x, mean_square, chain, correction, joined=joined)
    return y if weight is None else mpc.mul(y, weight)


RMS_NORM_FITTED = fitted_norm(rms_norm_fitted, "rms_norm", "mean_square")
