"""GELU left out, as MPCViT+ does where a search says so: the two linear layers around it then become one. Free.

Source: Zeng et al., MPCViT, ICCV 2023, arXiv 2211.13955, section on MPCViT+.
"""

from __future__ import annotations

from typing import Any

from mpcc.approximate import Approximation
from mpcc.ir import mpc


def gelu_identity(x: Any) -> Any:
    """x, any shape (a copy by a free scale, so that the site is still a node)."""
    return mpc.scale(x, 1.0)


GELU_IDENTITY = Approximation(
    name="gelu_identity",
    operator="gelu",
    level="structural",
    source="MPCViT, arXiv 2211.13955",
    function=gelu_identity,
    summary="x",
)
