"""Mish as a spline (`mpcc.approximate.elementwise.spline`): three rounds, no range to leave.

    mish(x) = x tanh(log(1 + exp(x))); 0 below, x above
"""

from __future__ import annotations

import torch

from mpcc.approximate.elementwise import spline

MISH_SPLINE = spline("mish", torch.nn.functional.mish)
