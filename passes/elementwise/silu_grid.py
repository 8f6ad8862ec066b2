"""SiLU by a spline gate (`mpcc.approximate.grids`): one round.

    x / (1 + exp(-x)); 0 below, x above
"""

from __future__ import annotations

from mpcc.approximate.grids import elementwise_grid
from mpcc.fitting.minimax import silu

SILU_GRID = elementwise_grid("silu", silu)
