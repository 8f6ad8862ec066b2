"""Softmax left out: the logits divided by their number ("scaling attention"). Free; needs training.

    y = x / N

Q K^T V / N may then be computed as Q (K^T V) / N, cheaper where there are more tokens than the head has dimensions.
Source: MPCViT, arXiv 2211.13955 ("scaling attention").
"""

from __future__ import annotations

from typing import Any

from mpcc.approximate import Approximation
from mpcc.approximate.blocks import positive_dim
from mpcc.ir import mpc


def softmax_scaling(x: Any, dim: int) -> Any:
    """x over its number along `dim`, any shape."""
    return mpc.scale(x, 1.0 / int(x.shape[positive_dim(x, dim)]))


SOFTMAX_SCALING = Approximation(
    name="softmax_scaling",
    operator="softmax",
    level="structural",
    source="MPCViT, arXiv 2211.13955",
    function=softmax_scaling,
    summary="x / N",
)
