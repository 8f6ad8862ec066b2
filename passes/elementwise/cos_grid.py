"""Cosine by a spline gate (`mpcc.approximate.grids`): one round.

    cos(x)
"""

from __future__ import annotations

from mpcc.approximate.grids import elementwise_grid
from mpcc.fitting.minimax import cosine

COS_GRID = elementwise_grid("cos", cosine)
