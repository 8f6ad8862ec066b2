"""Softmax of sharp rows, without a maximum: roughly normalised at a higher temperature, then raised to the power.

    c = x - mean(x);   w = p(c)^.. = exp(c / 2b);   q = w^2 = exp(c / b)
    h = mean(exp(c / 2))  in [1, H]      b = 2: the mean of q;  b = 4: of w^4, from the opening that gives q
    z = q h^(-2/b)                       a rough chain: 30 % off is good enough, it cancels below
    e = z^b;   y = e / mean(e) / N       mean(e) is in [1, S] times the rough chain's error to the b-th power

Where rows are sharp, mean(exp(c)) of `softmax_mean_shift` spans 10^6 and more. Its square root spans 10^3: a rough
chain will do. What is left is S = mean(exp(c)) / mean(exp(c/2))^2: at most N for any row, by Cauchy and Schwarz.

Outside the fitted ranges (`low`, `high`, `half`, `sharpness`: calibrated, widened by `margin` in the logits): a row
whose half-temperature denominator lies above `half` is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpcc.ir import mpc
from mpcc.rewrite import Approximation, Options, SiteStatistics
from mpcc.rewrite.chains import Chain, Kind, fit_chain, plan_chains, value
from mpcc.rewrite.exponentials import Exponential, fit_exponential
from mpcc.rewrite.fit import chebyshev_grid, rounded_up

from ._forms import Stages, factors, poly, positive_dim, power, product
from ._members import RECIPROCAL_TOLERANCE, exponential_error

MARGIN = 1.15
ROUGHEST = 0.6  # of the first normalisation
FRONTS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 2), (3, 2))
EXPONENTIAL_TOLERANCE = 5e-3
WIDEST_HALF = 150.0  # beyond this a small h has too few bits in the rough chain: softmax_renormalised
MOST_MEMBERS = 8
Member = tuple[tuple[bool, int, float], Options]


def softmax_tempered(
    x: Any,
    dim: int,
    *,
    start: Sequence[float],
    front: Sequence[int],
    last: int,
    rough: Stages,
    chain: Stages,
    joined: bool = True,
    **recorded: Any,
) -> Any:
    """softmax(x) over `dim`, any shape; `last` is b, `front` are the powers that lead to w."""
    dims = (positive_dim(x, dim),)
    centred = mpc.sub(x, mpc.mean(x, dims, keepdim=True))
    w = power(poly(centred, start), front)
    q = mpc.square(w)
    half = mpc.mean(q if last == 2 else power(w, (4,)), dims, keepdim=True)
    e = power(product(q, factors(half, rough), joined=joined), (last,))
    total = mpc.mean(e, dims, keepdim=True)
    return product(e, factors(total, chain, 1.0 / int(x.shape[dims[0]])), joined=joined)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """Fewest rounds first among the accurate ones; then less accurate ones that are shorter."""
    seen = statistics.ranges
    if seen["centred"].high - seen["centred"].low > 80:
        return ()
    centred = seen["centred"].widened(MARGIN)
    low, high = rounded_up(centred.low), rounded_up(centred.high)
    half = rounded_up(max(seen["half_denominator"].high, 1.2) ** MARGIN)
    if half > WIDEST_HALF:
        return ()
    count = statistics.site.shape[statistics.site.attributes["dim"]]  # type: ignore[call-overload]
    sharpness = min(float(count), rounded_up(1 + (seen["sharpness"].high - 1) * MARGIN))
    found: list[Member] = []
    for front in FRONTS:
        for last, kind in ((4, "rsqrt"), (2, "reciprocal")):
            exponential = _exponential(low, high, front, last)
            if exponential.error > 2 * EXPONENTIAL_TOLERANCE:
                continue
            for rough in _roughs(kind, half):  # type: ignore[arg-type]
                found += _members(exponential, front, last, rough, sharpness, half, (low, high))
    found.sort(key=lambda member: member[0])
    members = [options for _, options in found[:MOST_MEMBERS]]
    return tuple({**options, "joined": joined} for options in members for joined in (True, False))


def _exponential(low: float, high: float, front: tuple[int, ...], last: int) -> Exponential:
    return min((fit_exponential(low, high, d, (*front, 2, last)) for d in (3, 4)), key=lambda e: e.fixed_error)


def _roughs(kind: Kind, half: float) -> list[Chain]:
    """Chains of one stage, two ... for the first normalisation: the roughest that may do, and better ones."""
    inner = (1,) if kind == "rsqrt" else (2,)
    chains = [fit_chain(kind, 1.0, half, (*inner * length, 4)) for length in range(5)]
    usable = [chain for chain in chains if chain.fixed_error < ROUGHEST]
    return usable[:2]


def _members(
    exponential: Exponential,
    front: tuple[int, ...],
    last: int,
    rough: Chain,
    sharpness: float,
    half: float,
    centred: tuple[float, float],
) -> list[Member]:
    slack = rough.fixed_error
    bottom, top = float(f"{(1 - slack) ** last:.3g}"), float(f"{sharpness * (1 + slack) ** last:.3g}")
    members: list[Member] = []
    for chain in plan_chains("reciprocal", bottom, top):
        if chain.error > 0.05:
            continue
        rounds = 2 + len(front) + len(rough.stages) + 2 + len(chain.stages) + 1
        coarse = chain.fixed_error > 2 * RECIPROCAL_TOLERANCE or exponential.error > EXPONENTIAL_TOLERANCE
        options: dict[str, Any] = {
            "start": list(exponential.start),
            "front": list(front),
            "last": last,
            "rough": rough.to_json(),
            "chain": chain.to_json(),
            **{"low": centred[0], "high": centred[1], "half": half, "bottom": bottom, "top": top},
            **{"sharpness": sharpness, "margin": MARGIN},
        }
        members.append(((coarse, rounds, exponential.fixed_error + chain.fixed_error), options))
    return members


def error(options: Options) -> float:
    """Bound on any weight's absolute error; the rough chain's own error cancels."""
    d = np.exp(chebyshev_grid(math.log(options["bottom"]), math.log(options["top"]), 4001))
    relative = float(np.abs(value(options["chain"], d) * d - 1).max())
    return exponential_error(options, (*options["front"], 2, options["last"]), 1.0, relative)


SOFTMAX_TEMPERED = Approximation(
    name="softmax_tempered",
    operator="softmax",
    level="bounded",
    source="fitted to the site; domains bounded by Jensen's and Cauchy and Schwarz's inequalities",
    function=softmax_tempered,
    candidates=candidates,
    error=error,
    summary="for sharp rows: roughly normalised at a higher temperature, then raised to the power and divided",
)
