"""Leaky ReLU: x - (1 - slope) [x < 0] x. Exact, one comparison and one selection, three rounds.
"""

from __future__ import annotations

from typing import Any

from mpcc.approximate import Approximation
from mpcc.ir import mpc


def leaky_relu(x: Any, *, negative_slope: float = 0.01) -> Any:
    """x above 0, negative_slope * x below; any shape."""
    return mpc.sub(x, mpc.scale(mpc.select(mpc.less(x, 0.0), x), 1.0 - negative_slope))


LEAKY_RELU = Approximation(
    name="leaky_relu",
    operator="leaky_relu",
    level="exact",
    source="definition",
    function=leaky_relu,
    error=lambda options: 0.0,
    summary="one comparison, one selection",
)
