"""The logistic function by a spline gate (`mpcc.approximate.grids`): one round.

    1 / (1 + exp(-x))
"""

from __future__ import annotations

from mpcc.approximate.grids import elementwise_grid
from mpcc.fitting.minimax import sigmoid

SIGMOID_GRID = elementwise_grid("sigmoid", sigmoid)
