"""GELU as a spline (`mpcc.approximate.elementwise.spline`): three rounds, no range to leave.

    gelu(x) = x (1 + erf(x / sqrt 2)) / 2; 0 below, x above
"""

from __future__ import annotations

import torch

from mpcc.approximate.elementwise import spline

GELU_SPLINE = spline("gelu", torch.nn.functional.gelu, preference=1)
