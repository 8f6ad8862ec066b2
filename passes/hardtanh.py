"""Hard tanh: clamp to [min_val, max_val], two thresholds on one opening. Exact, three rounds.
"""

from __future__ import annotations

from typing import Any

from mpcc.rewrite import Approximation

from ._forms import clamped


def hardtanh(x: Any, *, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """x limited to [min_val, max_val]; any shape."""
    return clamped(x, min_val, max_val)


HARDTANH = Approximation(
    name="hardtanh",
    operator="hardtanh",
    level="exact",
    source="definition",
    function=hardtanh,
    error=lambda options: 0.0,
    summary="two thresholds on one opening",
)
