"""1/x by a chain of polynomials on the calibrated range (`fitted_chain`)."""

from __future__ import annotations

from typing import Any

import torch

from mpcc.approximate.blocks import Stages
from mpcc.approximate.elementwise import combined, fitted_chain
from mpcc.ir import mpc


def reciprocal_fitted(x: Any, *, chain: Stages, sign: float = 1.0, **recorded: Any) -> Any:
    """1/x, any shape; `sign` is that of the whole range."""
    return mpc.scale(combined(mpc.scale(x, sign), chain), sign)


RECIPROCAL_FITTED = fitted_chain("reciprocal", torch.reciprocal, kind="reciprocal", function=reciprocal_fitted, signs=(1.0, -1.0))
