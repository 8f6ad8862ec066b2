"""GELU as in PUMA: 0, a cubic, an even polynomial of degree 6 plus x/2, and x. Error 2.0e-2.

    x < -4: 0
    [-4, -1.95): -.50540312 - .42226582 x - .11807613 x^2 - .01103413 x^3
    [-1.95, 3]: .00852632 + .5 x + .36032927 x^2 - .03768820 x^4 + .00180675 x^6
    x > 3: x

The power 6 is a cubic in x^2, so there is one more opening than degree; still three rounds.
Source: Dong et al., PUMA, arXiv 2307.12533, equation 4.
"""

from __future__ import annotations

from typing import Any

import torch

from mpcc.approximate import Approximation, Options
from mpcc.approximate.piecewise import largest_error
from mpcc.ir import mpc

CUBIC = (-0.50540312, -0.42226582, -0.11807613, -0.01103413)
EVEN = (0.00852632, 0.36032927, -0.03768820, 0.00180675)  # powers of x^2
THRESHOLDS = (-4.0, -1.95, 3.0)
REACH = 30.0


def gelu_puma(x: Any) -> Any:
    """gelu(x), any shape."""
    far, left, inside = (mpc.less(x, t) for t in THRESHOLDS)
    cubic = mpc.polynomial(x, CUBIC)
    even = mpc.polynomial(mpc.square(x), EVEN)  # the middle piece without its x/2
    middle = mpc.sub(mpc.select(inside, even), mpc.select(left, even))
    sides = mpc.sub(mpc.select(left, cubic), mpc.select(far, cubic))
    halves = mpc.scale(mpc.add(mpc.select(inside, x), mpc.select(left, x)), -0.5)
    return mpc.add(mpc.add(x, halves), mpc.add(middle, sides))


def error(options: Options) -> float:
    """Largest absolute error over all x."""
    return largest_error(gelu_puma, torch.nn.functional.gelu, -REACH, REACH, THRESHOLDS)


GELU_PUMA = Approximation(
    name="gelu_puma",
    operator="gelu",
    level="bounded",
    source="PUMA, arXiv 2307.12533, equation 4",
    function=gelu_puma,
    error=error,
    summary="a cubic and an even polynomial of degree 6 between three thresholds",
)
