"""Sine by a spline gate (`mpcc.approximate.grids`): one round.

    sin(x)
"""

from __future__ import annotations

from mpcc.approximate.grids import elementwise_grid
from mpcc.fitting.minimax import sine

SIN_GRID = elementwise_grid("sin", sine)
