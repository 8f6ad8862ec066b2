"""The logarithm by a spline gate (`mpcc.approximate.grids`), on a range above 0: one round.

    log(x)
"""

from __future__ import annotations

from mpcc.approximate.grids import above_zero, elementwise_grid
from mpcc.fitting.minimax import logarithm

LOG_GRID = elementwise_grid("log", logarithm, ends=above_zero)
