"""sqrt(x) as x / sqrt(x), with 1/sqrt(x) by a chain of polynomials on the calibrated range (`fitted_chain`)."""

from __future__ import annotations

from typing import Any

import torch

from mpcc.approximate.blocks import Stages, factors, product
from mpcc.approximate.elementwise import fitted_chain


def sqrt_fitted(x: Any, *, chain: Stages, **recorded: Any) -> Any:
    """sqrt(x), any shape."""
    return product(x, factors(x, chain), joined=False)


SQRT_FITTED = fitted_chain("sqrt", torch.sqrt, function=sqrt_fitted)
