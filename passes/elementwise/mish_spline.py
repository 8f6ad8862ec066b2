"""Mish as a spline: pieces between thresholds that all share one opening. Three rounds.

    mish(x) = x tanh(log(1 + exp(x))); 0 below, x above

The knots are free: the fewest pieces within a tolerance, the same for every site. Degree 1 opens x only (16 bytes an
element, 1.75 a threshold), degree 2 also x^2, once for all pieces. The outer pieces hold everywhere: no range to leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.curves import spline_members
from mpcc.approximate.piecewise import largest_error, piecewise

REACH = 30.0


def mish_spline(x: Any, *, thresholds: Sequence[float], pieces: Sequence[Sequence[float]]) -> Any:
    """mish(x), any shape."""
    return piecewise(x, thresholds, pieces)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """Quadratic splines, then straight ones; the finer first."""
    return spline_members("mish")


def error(options: Options) -> float:
    """Largest absolute error over all x."""
    spline = partial(mish_spline, **options)
    return largest_error(spline, torch.nn.functional.mish, -REACH, REACH, options["thresholds"])


MISH_SPLINE = Approximation(
    name="mish_spline",
    operator="mish",
    level="bounded",
    source="fitted: a spline with free knots",
    function=mish_spline,
    candidates=candidates,
    error=error,
    summary="pieces of degree 1 or 2 between thresholds on one opening",
)
