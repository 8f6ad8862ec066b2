"""Softplus as a spline: pieces between thresholds that all share one opening. Three rounds.

    softplus(x) = log(1 + exp(beta x)) / beta; 0 below, x above

The knots are free; the outer pieces hold everywhere. torch's `threshold` switches to x where the spline already is x.
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


def softplus_spline(
    x: Any,
    *,
    thresholds: Sequence[float],
    pieces: Sequence[Sequence[float]],
    beta: float = 1.0,
    threshold: float = 20.0,
) -> Any:
    """softplus(x), any shape."""
    return mpc.scale(piecewise(mpc.scale(x, beta), thresholds, pieces), 1.0 / beta)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """Quadratic splines, then straight ones; the finer first."""
    return spline_members("softplus")


def error(options: Options) -> float:
    """Largest absolute error over all x, for beta = 1."""
    curve = partial(softplus_spline, **options)
    return largest_error(curve, torch.nn.functional.softplus, -REACH, REACH, options["thresholds"])


SOFTPLUS_SPLINE = Approximation(
    name="softplus_spline",
    operator="softplus",
    level="bounded",
    source="fitted: a spline with free knots",
    function=softplus_spline,
    candidates=candidates,
    error=error,
    summary="pieces of degree 1 or 2 between thresholds on one opening",
)
