"""ReLU by one comparison and one selection: max(x, 0) = x - [x < 0] x. Exact, three rounds.
"""

from __future__ import annotations

from typing import Any

from mpcc.approximate import Approximation
from mpcc.ir import mpc


def relu(x: Any) -> Any:
    """max(x, 0), any shape."""
    return mpc.relu(x)


RELU = Approximation(
    name="relu",
    operator="relu",
    level="exact",
    source="definition",
    function=relu,
    error=lambda options: 0.0,
    summary="one comparison, one selection",
)
