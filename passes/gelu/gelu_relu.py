"""GELU replaced by ReLU, as in THE-X. One comparison, three rounds; .17 off at most, at |x| = .75.

Source: Chen et al., THE-X, ACL Findings 2022, arXiv 2206.00216.
"""

from __future__ import annotations

from typing import Any

from mpcc.approximate import Approximation
from mpcc.ir import mpc


def gelu_relu(x: Any) -> Any:
    """max(x, 0), any shape."""
    return mpc.relu(x)


GELU_RELU = Approximation(
    name="gelu_relu",
    operator="gelu",
    level="structural",
    source="THE-X, arXiv 2206.00216",
    function=gelu_relu,
    error=lambda options: 0.17,
    summary="max(x, 0)",
)
