"""Hard swish by a spline gate (`mpcc.approximate.grids`): one round.

    x clamp(x + 3, 0, 6) / 6; kinks at -3 and 3, which take many pieces
"""

from __future__ import annotations

from mpcc.approximate.grids import elementwise_grid
from mpcc.fitting.minimax import hardswish

HARDSWISH_GRID = elementwise_grid("hardswish", hardswish, kinks=(-3.0, 3.0))
