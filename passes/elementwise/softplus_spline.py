"""Softplus as a spline (`mpcc.approximate.elementwise.spline`): three rounds, no range to leave.

    softplus(x) = log(1 + exp(beta x)) / beta; 0 below, x above

torch's `threshold` switches to x where the spline already is x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mpcc.approximate.elementwise import spline
from mpcc.approximate.piecewise import Pieces, piecewise
from mpcc.ir import mpc


def softplus_spline(
    x: Any, *, thresholds: Sequence[float], pieces: Pieces, beta: float = 1.0, threshold: float = 20.0
) -> Any:
    """softplus(x), any shape. The declared error is that for beta = 1."""
    return mpc.scale(piecewise(mpc.scale(x, beta), thresholds, pieces), 1.0 / beta)


SOFTPLUS_SPLINE = spline("softplus", torch.nn.functional.softplus, function=softplus_spline)
