"""Clamp to public bounds by two thresholds on one opening. Exact, three rounds.
"""

from __future__ import annotations

from typing import Any

from mpcc.approximate import Approximation
from mpcc.approximate.blocks import clamped


def clamp(x: Any, *, min: float | None = None, max: float | None = None) -> Any:  # noqa: A002  (torch's names)
    """x limited to [min, max], either bound may be absent; any shape."""
    return clamped(x, min, max)


CLAMP = Approximation(
    name="clamp",
    operator="clamp",
    level="exact",
    source="definition",
    function=clamp,
    error=lambda options: 0.0,
    summary="two thresholds on one opening",
)
