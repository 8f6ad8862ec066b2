"""A comparison with zero by one comparison: [x > 0] is [-x < 0], [x >= 0] is 1 - [x < 0]. Exact, two rounds.
"""

from __future__ import annotations

from typing import Any

from mpcc.approximate import Approximation
from mpcc.ir import mpc


def step(x: Any, *, strict: bool = False) -> Any:
    """1 where x is above zero, or at least zero, else 0; any shape."""
    if strict:
        return mpc.less(mpc.neg(x), 0.0)
    return mpc.add(mpc.neg(mpc.less(x, 0.0)), 1.0)


STEP = Approximation(
    name="step",
    operator="step",
    level="exact",
    source="definition",
    function=step,
    error=lambda options: 0.0,
    summary="one comparison",
)
