"""The error function by a spline gate (`mpcc.approximate.grids`): one round.

    2 / sqrt(pi) times the integral of exp(-u^2) from 0 to x
"""

from __future__ import annotations

from mpcc.approximate.grids import elementwise_grid
from mpcc.fitting.minimax import error_function

ERF_GRID = elementwise_grid("erf", error_function)
