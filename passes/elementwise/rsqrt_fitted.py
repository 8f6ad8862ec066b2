"""1/sqrt(x) by a chain of polynomials on the calibrated range (`fitted_chain`)."""

from __future__ import annotations

from typing import Any

import torch

from mpcc.approximate.blocks import Stages
from mpcc.approximate.elementwise import combined, fitted_chain


def rsqrt_fitted(x: Any, *, chain: Stages, **recorded: Any) -> Any:
    """1/sqrt(x), any shape."""
    return combined(x, chain)


RSQRT_FITTED = fitted_chain("rsqrt", torch.rsqrt, function=rsqrt_fitted)
