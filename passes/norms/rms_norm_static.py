"""RMSNorm with a public number for the inverse root mean square. Free; needs training.

    y = factor * x * weight          factor = mean(sqrt m) / mean(m),  m = mean(x^2) + eps

As `layer_norm_static`, without the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpcc.approximate.families import static_norm
from mpcc.ir import mpc


def rms_norm_static(
    x: Any, weight: Any = None, *, normalized_shape: Sequence[int], eps: float | None = None, factor: float
) -> Any:
    """rms_norm over the last len(normalized_shape) dimensions; weight may be absent."""
    y = mpc.scale(x, factor)
    return y if weight is None else mpc.mul(y, weight)


RMS_NORM_STATIC = static_norm(rms_norm_static, "rms_norm", "mean_square", "x times a public number")
