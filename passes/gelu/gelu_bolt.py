"""GELU as in BOLT: a quartic in |x| plus x/2 between two thresholds, 0 below and x above. Error 9.4e-3.

    |x| <= 2.7: .0208486 a^4 - .1835251 a^3 + .5410550 a^2 - .0379816 a + .0016208 + x/2,   a = |x|

The two signs of x are two pieces here, so |x| needs no round of its own.
Source: Pang et al., BOLT, IEEE S&P 2024, section on GELU.
"""

from __future__ import annotations

from typing import Any

import torch

from mpcc.approximate import Approximation, Options
from mpcc.approximate.piecewise import largest_error, piecewise

THRESHOLDS = (-2.7, 0.0, 2.7)
PIECES = (
    (0.0,),
    (0.0016208, 0.5379816, 0.541055, 0.1835251, 0.0208486),
    (0.0016208, 0.4620184, 0.541055, -0.1835251, 0.0208486),
    (0.0, 1.0),
)
REACH = 30.0


def gelu_bolt(x: Any) -> Any:
    """gelu(x), any shape."""
    return piecewise(x, THRESHOLDS, PIECES)


def error(options: Options) -> float:
    """Largest absolute error over all x."""
    return largest_error(gelu_bolt, torch.nn.functional.gelu, -REACH, REACH, THRESHOLDS)


GELU_BOLT = Approximation(
    name="gelu_bolt",
    operator="gelu",
    level="bounded",
    source="BOLT, IEEE S&P 2024",
    function=gelu_bolt,
    error=error,
    summary="a quartic in |x| between thresholds at 2.7",
)
