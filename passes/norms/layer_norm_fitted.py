"""LayerNorm with an inverse square root fitted to this very layer's variances.

    c = x - mean(x);  v = mean(c^2) + eps;  y = c / sqrt(v) * weight + bias

1/sqrt(v) is a chain of polynomials on the calibrated range of v (mpcc.fitting.factor_chains): one stage where the variances
span a factor of 2 or so, two or three where they span 10 or 100. c is opened once, for its square and for the product.
With a `correction` a short chain is tried on v itself and what is left is fitted (mpcc.fitting.corrections): finer than any
chain, in no more rounds than one of three stages.
Where variances are small, c is taken times `gain` (a power of two, which only changes a scale), as y does not depend on it.

Outside the fitted range of v (`low`, `high`, the calibrated one widened by the factor `margin` on both sides): a chain
of one stage degrades gently; of several stages, or corrected, it is wrong far beyond the range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpcc.approximate.blocks import Stages, scaled, times_rsqrt
from mpcc.approximate.families import fitted_norm
from mpcc.ir import mpc


def layer_norm_fitted(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    normalized_shape: Sequence[int],
    eps: float,
    chain: Stages,
    correction: Sequence[float] = (),
    joined: bool = True,
    gain: float = 1.0,
    **recorded: Any,
) -> Any:
    """layer_norm over the last len(normalized_shape) dimensions; weight and bias may be absent."""
    rank = len(x.shape)
    dims = tuple(range(rank - len(normalized_shape), rank))
    centred = scaled(mpc.sub(x, mpc.mean(x, dims, keepdim=True)), gain)
    variance = mpc.add(mpc.mean(mpc.square(centred), dims, keepdim=True), eps * gain**2)
    y = times_rsqrt(centred, variance, chain, correction, joined=joined)
    y = y if weight is None else mpc.mul(y, weight)
    return y if bias is None else mpc.add(y, bias)


LAYER_NORM_FITTED = fitted_norm(layer_norm_fitted, "layer_norm", "variance")
