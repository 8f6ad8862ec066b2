"""Softmax replaced by a normalised parabola ("2Quad"), as in MPCFormer. Needs training.

    y = (x + c)^2 / sum (x + c)^2,   c = 5 in the paper

1/sum is a chain of polynomials on the calibrated range of the mean square (widened by the factor `margin`).
Source: Li et al., MPCFormer, arXiv 2211.01452. MPCViT's code uses c = 0 and an eps in the sum.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.blocks import Stages, positive_dim, share
from mpcc.approximate.families import between, first_within
from mpcc.fitting.factor_chains import options_of, plan_chains
from mpcc.ir import mpc

MARGIN = 1.5
SHIFT = 5.0
TOLERANCE, ROUGHEST = 1e-3, 0.1


def softmax_2quad(
    x: Any, dim: int, *, chain: Stages | None, shift: float = SHIFT, joined: bool = True, **recorded: Any
) -> Any:
    """(x + shift)^2 over its sum along `dim`, any shape."""
    dims = (positive_dim(x, dim),)
    return share(mpc.square(mpc.add(x, shift)), dims, chain, joined=joined)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """c = 5, by the length of the reciprocal's chain."""
    seen = statistics.ranges["quad_mean"]
    low, high = float(f"{seen.low / MARGIN:.3g}"), float(f"{seen.high * MARGIN:.3g}")
    if low <= 0:
        return ()
    chains = [chain for chain in plan_chains("reciprocal", low, high) if chain.error < ROUGHEST]
    recorded = {"shift": SHIFT, "low": low, "high": high, "margin": MARGIN}
    return tuple(
        {**options_of(chain), **recorded, "joined": joined}
        for chain in first_within(chains, TOLERANCE)
        for joined in (True, False)
    )


def quantities(x: Tensor, *, dim: int) -> dict[str, Tensor]:
    """quad_mean: the mean of (x + c)^2 along `dim`, which is divided by."""
    return {"quad_mean": (x + SHIFT).square().mean(dim)}


SOFTMAX_2QUAD = Approximation(
    name="softmax_2quad",
    operator="softmax",
    level="structural",
    source="MPCFormer, arXiv 2211.01452",
    function=softmax_2quad,
    candidates=candidates,
    domain=between("quad_mean"),
    quantities=quantities,
    layout="joined",
    summary="(x + 5)^2 over its sum",
    exact_form=lambda options: {**options, "chain": None},
)
