"""Softmax as in THE-X: a cubed ramp in place of exp, a learned reciprocal of its sum. Needs training.

    e = relu(x / 2 + 1)^3;   y = e / (sum e + floor N)

THE-X approximates the reciprocal by a small ReLU network; here it is a chain of polynomials, with a floor under the
sum, which has no lower bound.
Source: Chen et al., THE-X, arXiv 2206.00216, section 3.2.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mpcc.approximate import Approximation, Domain, Options, SiteStatistics
from mpcc.approximate.blocks import Stages, positive_dim, power, share
from mpcc.approximate.families import first_within
from mpcc.fitting.factor_chains import options_of, plan_chains
from mpcc.ir import mpc

MARGIN = 1.5
FLOOR = 0.05  # of the root mean square of the calibrated means
TOLERANCE, ROUGHEST = 1e-3, 0.1


def softmax_the_x(x: Any, dim: int, *, chain: Stages | None, floor: float, joined: bool = True, **recorded: Any) -> Any:
    """relu(x / 2 + 1)^3 over its sum along `dim`, any shape."""
    dims = (positive_dim(x, dim),)
    e = power(mpc.relu(mpc.add(mpc.scale(x, 0.5), 1.0)), (3,))
    return share(e, dims, chain, joined=joined, floor=floor)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """One floor; the reciprocal accurate."""
    seen = statistics.ranges["ramp_mean"]
    floor = statistics.fixed.get("floor", float(f"{max(FLOOR * seen.rms, 1e-3):.3g}"))
    high = float(f"{seen.high * MARGIN + floor:.3g}")
    chains = [chain for chain in plan_chains("reciprocal", floor, high) if chain.error < ROUGHEST]
    recorded = {"floor": floor, "high": high, "margin": MARGIN}
    return tuple({**options_of(chain), **recorded} for chain in first_within(chains, TOLERANCE)[:1])


def quantities(x: Tensor, *, dim: int) -> dict[str, Tensor]:
    """ramp_mean: the mean of the cubed ramps along `dim`, which is divided by."""
    return {"ramp_mean": (x / 2 + 1).relu().pow(3).mean(dim)}


def domain(options: Options) -> Domain:
    """The mean of the ramps below what the reciprocal was fitted to; the floor guards it from below."""
    return {"ramp_mean": (0.0, options["high"] - options["floor"])}


SOFTMAX_THE_X = Approximation(
    name="softmax_the_x",
    operator="softmax",
    level="structural",
    source="THE-X, arXiv 2206.00216",
    function=softmax_the_x,
    candidates=candidates,
    domain=domain,
    quantities=quantities,
    summary="relu(x / 2 + 1)^3 over its sum, with a floor",
    trained=("floor",),
    exact_form=lambda options: {**options, "chain": None},
)
