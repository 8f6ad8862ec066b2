"""GELU in BOLT's form, fitted again: a quartic in |x| plus x/2 between thresholds at 3.2. Error 3.4e-3.

    |x| <= 3.2: .022282 a^4 - .191637 a^3 + .556144 a^2 - .048128 a + .003370 + x/2,   a = |x|

The same cost as BOLT's, a third of its error.
"""

from __future__ import annotations

from typing import Any

import torch

from mpcc.approximate import Approximation, Options
from mpcc.approximate.piecewise import largest_error, piecewise

THRESHOLDS = (-3.2, 0.0, 3.2)
PIECES = (
    (0.0,),
    (0.00337, 0.548128, 0.556144, 0.191637, 0.022282),
    (0.00337, 0.451872, 0.556144, -0.191637, 0.022282),
    (0.0, 1.0),
)
REACH = 30.0


def gelu_refit(x: Any) -> Any:
    """gelu(x), any shape."""
    return piecewise(x, THRESHOLDS, PIECES)


def error(options: Options) -> float:
    """Largest absolute error over all x."""
    return largest_error(gelu_refit, torch.nn.functional.gelu, -REACH, REACH, THRESHOLDS)


GELU_REFIT = Approximation(
    name="gelu_refit",
    operator="gelu",
    level="bounded",
    source="BOLT's form, coefficients of our own",
    function=gelu_refit,
    error=error,
    summary="BOLT's form with minimax coefficients",
)
