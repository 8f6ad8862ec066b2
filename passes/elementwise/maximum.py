"""Element-wise maximum of two secret tensors: y + max(x - y, 0). Exact, one comparison, three rounds.
"""

from __future__ import annotations

from typing import Any

from mpcc.approximate import Approximation
from mpcc.ir import mpc


def maximum(x: Any, y: Any) -> Any:
    """max(x, y), broadcast."""
    return mpc.maximum(x, y)


MAXIMUM = Approximation(
    name="maximum",
    operator="maximum",
    level="exact",
    source="definition",
    function=maximum,
    error=lambda options: 0.0,
    summary="one comparison, one selection",
)
