"""GELU replaced by a parabola ("Quad"), as in MPCFormer. No comparison, one round; needs training.

    .125 x^2 + .5 x + .25      as in its benchmark code; nearer to GELU (.25 off on [-3, 3])
    .125 x^2 + .25 x + .5      as in its model code

Source: Li et al., MPCFormer, arXiv 2211.01452.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.fitting.minimax import gelu, rounded
from mpcc.ir import mpc

NEARER, MODEL_CODE = (0.25, 0.5, 0.125), (0.5, 0.25, 0.125)


def gelu_quad(x: Any, *, coefficients: Sequence[float] = NEARER) -> Any:
    """A parabola in x, any shape."""
    return mpc.polynomial(x, tuple(coefficients))


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """The parabola fitted to the site's values, then the two published ones."""
    if "coefficients" in statistics.fixed:
        return ({"coefficients": list(statistics.fixed["coefficients"])},)
    x = statistics.samples["input"].numpy()
    fitted = rounded(np.linalg.lstsq(np.vander(x, 3, increasing=True), gelu(x), rcond=None)[0])
    return tuple({"coefficients": list(c)} for c in (fitted, NEARER, MODEL_CODE))


GELU_QUAD = Approximation(
    name="gelu_quad",
    operator="gelu",
    level="structural",
    source="MPCFormer, arXiv 2211.01452",
    function=gelu_quad,
    candidates=candidates,
    summary="a parabola, published or fitted to the site",
    trained=("coefficients",),
)
