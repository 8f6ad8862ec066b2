"""Maximum over dimensions by a tree of pairwise maxima. Exact, 3 rounds for each halving: 3 ceil(log2 N).

The dimension is cut in halves, each level is one comparison of whole halves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpcc.approximate import Approximation
from mpcc.approximate.blocks import largest


def amax(x: Any, dim: Sequence[int] | int = (), *, keepdim: bool = False) -> Any:
    """The maximum over `dim` (all dimensions if it is empty)."""
    return largest(x, (dim,) if isinstance(dim, int) else tuple(dim), keepdim=keepdim)


AMAX = Approximation(
    name="amax",
    operator="amax",
    level="exact",
    source="definition",
    function=amax,
    error=lambda options: 0.0,
    summary="a tree of pairwise maxima",
)
