"""1/x by a spline gate (`mpcc.approximate.grids`), on a range above 0: one round.

    1 / x on positive values
"""

from __future__ import annotations

from mpcc.approximate.grids import above_zero, elementwise_grid, inverse, itself

RECIPROCAL_GRID = elementwise_grid("reciprocal", inverse, ends=above_zero, weight=itself)
