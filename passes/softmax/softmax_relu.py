"""Softmax replaced by ReLU over its sum ("RSAttn", "2ReLU"), with a floor under the sum. Needs training.

    y = relu(x) / (sum relu(x) + floor N)

The sum has no lower bound, so `floor` (a share of the calibrated mean) gives it one; 1/sum is a chain of polynomials on
[floor, high + floor], high calibrated and widened by `margin`.
Source: MPCViT, arXiv 2211.13955 ("ReLU softmax attention"); MPCFormer, arXiv 2211.01452 ("2ReLU").
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mpcc.approximate import Approximation, Domain, Options, SiteStatistics
from mpcc.approximate.blocks import Stages, positive_dim, share
from mpcc.approximate.families import first_within
from mpcc.fitting.factor_chains import options_of, plan_chains
from mpcc.ir import mpc

MARGIN = 1.5
FLOORS = (0.05, 0.2)  # of the root mean square of the calibrated means
TOLERANCE, ROUGHEST = 1e-3, 0.1


def softmax_relu(x: Any, dim: int, *, chain: Stages | None, floor: float, joined: bool = True, **recorded: Any) -> Any:
    """relu(x) over its sum along `dim`, any shape."""
    dims = (positive_dim(x, dim),)
    return share(mpc.relu(x), dims, chain, joined=joined, floor=floor)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """A low floor and a high one."""
    seen = statistics.ranges["relu_mean"]
    found: list[Options] = []
    floors = [float(f"{max(fraction * seen.rms, 1e-3):.3g}") for fraction in FLOORS]
    for floor in [statistics.fixed["floor"]] if "floor" in statistics.fixed else floors:
        high = float(f"{seen.high * MARGIN + floor:.3g}")
        chains = [chain for chain in plan_chains("reciprocal", floor, high) if chain.error < ROUGHEST]
        recorded = {"floor": floor, "high": high, "margin": MARGIN}
        found += [{**options_of(chain), **recorded} for chain in first_within(chains, TOLERANCE)[:1]]
    return tuple({**candidate, "joined": joined} for candidate in found for joined in (True, False))


def quantities(x: Tensor, *, dim: int) -> dict[str, Tensor]:
    """relu_mean: the mean of relu(x) along `dim`, which is divided by."""
    return {"relu_mean": x.relu().mean(dim)}


def domain(options: Options) -> Domain:
    """The mean of relu(x) below what the reciprocal was fitted to; the floor guards it from below."""
    return {"relu_mean": (0.0, options["high"] - options["floor"])}


SOFTMAX_RELU = Approximation(
    name="softmax_relu",
    operator="softmax",
    level="structural",
    source="MPCViT, arXiv 2211.13955; MPCFormer, arXiv 2211.01452",
    function=softmax_relu,
    candidates=candidates,
    domain=domain,
    quantities=quantities,
    layout="joined",
    summary="relu(x) over its sum, with a floor",
    trained=("floor",),
    exact_form=lambda options: {**options, "chain": None},
)
