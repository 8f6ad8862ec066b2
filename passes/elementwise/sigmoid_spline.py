"""The logistic function as a spline (`mpcc.approximate.elementwise.spline`): three rounds, no range to leave.

    1 / (1 + exp(-x)); 0 below, 1 above
"""

from __future__ import annotations

import torch

from mpcc.approximate.elementwise import spline

SIGMOID_SPLINE = spline("sigmoid", torch.sigmoid)
