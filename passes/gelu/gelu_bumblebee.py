"""GELU as in BumbleBee: BOLT's quartic in |x|, cut at 3 instead of 2.7. Error 5.2e-3.

    |x| <= 3: .0208486 a^4 - .1835251 a^3 + .5410550 a^2 - .0379816 a + .0016208 + x/2,   a = |x|

Source: Lu et al., BumbleBee, NDSS 2025 (there on a ring of 32 bits with 12 fraction bits).
"""

from __future__ import annotations

from typing import Any

import torch

from mpcc.approximate import Approximation, Options
from mpcc.approximate.piecewise import largest_error, piecewise

THRESHOLDS = (-3.0, 0.0, 3.0)
PIECES = (
    (0.0,),
    (0.0016208, 0.5379816, 0.541055, 0.1835251, 0.0208486),
    (0.0016208, 0.4620184, 0.541055, -0.1835251, 0.0208486),
    (0.0, 1.0),
)
REACH = 30.0


def gelu_bumblebee(x: Any) -> Any:
    """gelu(x), any shape."""
    return piecewise(x, THRESHOLDS, PIECES)


def error(options: Options) -> float:
    """Largest absolute error over all x."""
    return largest_error(gelu_bumblebee, torch.nn.functional.gelu, -REACH, REACH, THRESHOLDS)


GELU_BUMBLEBEE = Approximation(
    name="gelu_bumblebee",
    operator="gelu",
    level="bounded",
    source="BumbleBee, NDSS 2025",
    function=gelu_bumblebee,
    error=error,
    summary="BOLT's quartic between thresholds at 3",
)
