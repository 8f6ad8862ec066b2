"""Hard sigmoid: clamp(x, -3, 3) / 6 + 1/2. Exact, two thresholds on one opening, three rounds.
"""

from __future__ import annotations

from typing import Any

from mpcc.approximate import Approximation
from mpcc.approximate.blocks import clamped
from mpcc.ir import mpc


def hardsigmoid(x: Any) -> Any:
    """0 below -3, 1 above 3, a line between; any shape."""
    return mpc.add(mpc.scale(clamped(x, -3.0, 3.0), 1.0 / 6), 0.5)


HARDSIGMOID = Approximation(
    name="hardsigmoid",
    operator="hardsigmoid",
    level="exact",
    source="definition",
    function=hardsigmoid,
    error=lambda options: 0.0,
    summary="two thresholds on one opening",
)
