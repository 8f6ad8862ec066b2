"""ELU (CELU, SELU) as a spline of exp(x) - 1 below 0 and x above, all thresholds on one opening. Three rounds.

    elu(x) = scale (max(x, 0) + alpha (exp(input_scale min(x, 0)) - 1))

The spline is that of exp(min(x, 0)) - 1: -1 far below, 0 above; the ramp max(x, 0) is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.curves import spline_members
from mpcc.approximate.piecewise import largest_error, piecewise
from mpcc.ir import mpc

REACH = 30.0


def elu_spline(
    x: Any,
    *,
    thresholds: Sequence[float],
    pieces: Sequence[Sequence[float]],
    alpha: float = 1.0,
    scale: float = 1.0,
    input_scale: float = 1.0,
) -> Any:
    """elu(x), any shape."""
    below = piecewise(mpc.scale(x, input_scale), thresholds, pieces)
    return mpc.add(mpc.scale(mpc.relu(x), scale), mpc.scale(below, alpha * scale))


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """Quadratic splines, then straight ones; the finer first."""
    return spline_members("elu")


def error(options: Options) -> float:
    """Largest absolute error over all x, for alpha = scale = 1."""
    curve = partial(elu_spline, **options)
    return largest_error(curve, torch.nn.functional.elu, -REACH, REACH, options["thresholds"])


ELU_SPLINE = Approximation(
    name="elu_spline",
    operator="elu",
    level="bounded",
    source="fitted: a spline with free knots",
    function=elu_spline,
    candidates=candidates,
    error=error,
    summary="pieces of degree 1 or 2 below 0 on one opening, x above",
)
