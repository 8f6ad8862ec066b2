"""Element-wise minimum of two secret tensors: x - max(x - y, 0). Exact, one comparison, three rounds.
"""

from __future__ import annotations

from typing import Any

from mpcc.approximate import Approximation
from mpcc.ir import mpc


def minimum(x: Any, y: Any) -> Any:
    """min(x, y), broadcast."""
    return mpc.sub(x, mpc.relu(mpc.sub(x, y)))


MINIMUM = Approximation(
    name="minimum",
    operator="minimum",
    level="exact",
    source="definition",
    function=minimum,
    error=lambda options: 0.0,
    summary="one comparison, one selection",
)
