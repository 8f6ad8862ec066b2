"""The hyperbolic tangent as a spline (`mpcc.approximate.elementwise.spline`): three rounds, no range to leave.

    tanh(x); -1 below, 1 above
"""

from __future__ import annotations

import torch

from mpcc.approximate.elementwise import spline

TANH_SPLINE = spline("tanh", torch.tanh)
