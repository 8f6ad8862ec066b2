"""SiLU as a spline (`mpcc.approximate.elementwise.spline`): three rounds, no range to leave.

    silu(x) = x / (1 + exp(-x)); 0 below, x above
"""

from __future__ import annotations

import torch

from mpcc.approximate.elementwise import spline

SILU_SPLINE = spline("silu", torch.nn.functional.silu)
