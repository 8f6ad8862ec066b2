"""LayerNorm with a public number for the inverse standard deviation: no variance, no inverse root. Free; needs training.

    y = factor * (x - mean(x)) * weight + bias          factor = mean(sqrt v) / mean(v),  v = mean((x - mean(x))^2) + eps

The factor is the least-squares one over the calibrated rows: it minimises the mean of (factor - 1/sqrt(v))^2 v. It is near
where the rows of a layer vary alike; where they do not, training makes up for it. All of it is linear, so that it costs no
round, and the linear layers around it see one function of x.
Source: THE-X leaves variances out too (x * weight + bias, distilled), arXiv 2206.00216, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpcc.approximate.families import static_norm
from mpcc.ir import mpc


def layer_norm_static(
    x: Any, weight: Any = None, bias: Any = None, *, normalized_shape: Sequence[int], eps: float, factor: float
) -> Any:
    """layer_norm over the last len(normalized_shape) dimensions; weight and bias may be absent."""
    rank = len(x.shape)
    dims = tuple(range(rank - len(normalized_shape), rank))
    y = mpc.scale(mpc.sub(x, mpc.mean(x, dims, keepdim=True)), factor)
    y = y if weight is None else mpc.mul(y, weight)
    return y if bias is None else mpc.add(y, bias)


LAYER_NORM_STATIC = static_norm(layer_norm_static, "layer_norm", "variance", "(x - mean) times a public number")
