"""Hard swish: 0 below -3, x above 3, (x^2 + 3x) / 6 between. Exact, two thresholds, three rounds.

    y = x + [x < 3] (q - x/2) - [x < -3] (q + x/2),   q = x^2 / 6
"""

from __future__ import annotations

from typing import Any

from mpcc.approximate import Approximation
from mpcc.ir import mpc


def hardswish(x: Any) -> Any:
    """x * clamp(x + 3, 0, 6) / 6, any shape."""
    q = mpc.scale(mpc.square(x), 1.0 / 6)
    below, inside = mpc.less(x, -3.0), mpc.less(x, 3.0)
    halves = mpc.scale(mpc.add(mpc.select(inside, x), mpc.select(below, x)), -0.5)
    return mpc.add(x, mpc.add(mpc.sub(mpc.select(inside, q), mpc.select(below, q)), halves))


HARDSWISH = Approximation(
    name="hardswish",
    operator="hardswish",
    level="exact",
    source="definition",
    function=hardswish,
    error=lambda options: 0.0,
    summary="a parabola between two thresholds",
)
