"""Mish by a spline gate (`mpcc.approximate.grids`): one round.

    x tanh(log(1 + exp(x))); 0 below, x above
"""

from __future__ import annotations

from mpcc.approximate.grids import elementwise_grid
from mpcc.fitting.minimax import mish

MISH_GRID = elementwise_grid("mish", mish)
