"""Absolute value: |x| = x - 2 [x < 0] x. Exact, one comparison and one selection, three rounds.
"""

from __future__ import annotations

from typing import Any

from mpcc.approximate import Approximation
from mpcc.ir import mpc


def absolute(x: Any) -> Any:
    """|x|, any shape."""
    return mpc.sub(x, mpc.scale(mpc.select(mpc.less(x, 0.0), x), 2.0))


ABS = Approximation(
    name="abs",
    operator="abs",
    level="exact",
    source="definition",
    function=absolute,
    error=lambda options: 0.0,
    summary="one comparison, one selection",
)
