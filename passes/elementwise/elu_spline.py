"""ELU (CELU, SELU) as a spline of exp(x) - 1 below 0 and x above, all thresholds on one opening. Three rounds.

    elu(x) = scale (max(x, 0) + alpha (exp(input_scale min(x, 0)) - 1))

The spline is that of exp(min(x, 0)) - 1: -1 far below, 0 above; the ramp max(x, 0) is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mpcc.approximate.elementwise import spline
from mpcc.approximate.piecewise import Pieces, piecewise
from mpcc.ir import mpc


def elu_spline(
    x: Any, *, thresholds: Sequence[float], pieces: Pieces, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0
) -> Any:
    """elu(x), any shape. The declared error is that for alpha = scale = 1."""
    below = piecewise(mpc.scale(x, input_scale), thresholds, pieces)
    return mpc.add(mpc.scale(mpc.relu(x), scale), mpc.scale(below, alpha * scale))


ELU_SPLINE = spline(
    "elu", torch.nn.functional.elu, function=elu_spline, summary="pieces of degree 1 or 2 below 0 on one opening, x above"
)
