"""The hyperbolic tangent by a spline gate (`mpcc.approximate.grids`): one round.

    (exp(x) - exp(-x)) / (exp(x) + exp(-x))
"""

from __future__ import annotations

from mpcc.approximate.grids import elementwise_grid
from mpcc.fitting.minimax import tanh

TANH_GRID = elementwise_grid("tanh", tanh)
