"""The square root by a spline gate (`mpcc.approximate.grids`), on a range above 0: one round.

    sqrt(x)
"""

from __future__ import annotations

from mpcc.approximate.grids import above_zero, elementwise_grid, inverse_root, root

SQRT_GRID = elementwise_grid("sqrt", root, ends=above_zero, weight=inverse_root)
