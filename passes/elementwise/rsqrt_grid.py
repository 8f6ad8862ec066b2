"""1/sqrt(x) by a spline gate (`mpcc.approximate.grids`), on a range above 0: one round.

    1 / sqrt(x)
"""

from __future__ import annotations

from mpcc.approximate.grids import above_zero, elementwise_grid, inverse_root, root

RSQRT_GRID = elementwise_grid("rsqrt", inverse_root, ends=above_zero, weight=root)
