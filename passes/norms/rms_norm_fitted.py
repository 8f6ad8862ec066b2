"""RMSNorm with an inverse root fitted to this very layer's mean squares.

    m = mean(x^2) + eps;  y = x / sqrt(m) * weight

As `layer_norm_fitted`, without the mean: x is opened once for its square and for the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.blocks import Stages, scaled, times_rsqrt
from mpcc.approximate.families import between, norm_candidates, norm_error
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


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """By the number of stages, the accurate default first."""
    return norm_candidates(statistics, "mean_square")


RMS_NORM_FITTED = Approximation(
    name="rms_norm_fitted",
    operator="rms_norm",
    level="bounded",
    source="fitted to the site",
    function=rms_norm_fitted,
    candidates=candidates,
    error=norm_error,
    layout="joined",
    domain=between("mean_square"),
    summary="1/sqrt(mean square) by polynomials on the calibrated range",
)
