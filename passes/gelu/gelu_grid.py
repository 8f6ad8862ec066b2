"""GELU by a spline gate (`mpcc.approximate.grids`): one round.

    x (1 + erf(x / sqrt 2)) / 2; 0 below, x above
"""

from __future__ import annotations

from mpcc.approximate.grids import elementwise_grid
from mpcc.fitting.minimax import gelu

GELU_GRID = elementwise_grid("gelu", gelu)
