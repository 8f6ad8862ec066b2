"""Softmax of sharp rows, without a maximum: roughly normalised at a higher temperature, then raised to the power.

    c = x - mean(x);   w = p(c)^.. = exp(c / 8);   q = w^2 = exp(c / 4)
    h = mean(w^4) = mean(exp(c / 2))  in [1, H]
    z = q s(h)                            s(h) is about 1/sqrt(h); 30 % off is good enough, it cancels below
    e = z^4;   y = e / mean(e) / N        mean(e) is in [1, S] times the rough s's error to the fourth power

z^4 is one opening (`last` = [4], eleven bits of z) or two squarings ([2, 2], one round more and finer).

Where rows are sharp, mean(exp(c)) of `softmax_mean_shift` spans 10^6 and more. Its square root spans 10^3: a rough s
will do. What is left is S = mean(exp(c)) / mean(exp(c/2))^2, at most N for any row, by Cauchy and Schwarz.

s is a chain of polynomials where H is small, else a table: the right power of sqrt 2 by comparisons of h with powers of
2, in four rounds however large H is, on one number a row. Its last step holds for all h above. Where H is too large for a
comparison to tell small h apart, q is first scaled by a table of mean(q), whose range is the root of that of h; then the
new h is at most N.

The fitted ranges (`low`, `high`, `half`, `top`) are those of the calibration logits stretched by `margin`. Beyond them
w grows more slowly than exp, so that rows first become less sharp than they should be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpcc.approximate import Approximation, Domain, Options, SiteStatistics
from mpcc.approximate.blocks import RowMask, Stages, factors, poly, positive_dim, power, product, row_mean, share
from mpcc.approximate.families import RECIPROCAL_TOLERANCE, exponential_error
from mpcc.approximate.piecewise import Sum
from mpcc.fitting.exponentials import Exponential, fit_exponential
from mpcc.fitting.factor_chains import fit_chain, plan_chains, value
from mpcc.fitting.minimax import chebyshev_grid, rounded_up
from mpcc.ir import mpc

ROUGHEST = 0.4  # relative error of a chain for s
MOST_CHAINED = 100.0  # beyond it the first factor's slope is too small beside its constant
MOST_OCTAVES = 13  # a comparison tells apart 2^16 steps of its range: enough for h near 1
FRONTS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 2), (3, 2))
EXPONENTIAL_TOLERANCE = 3e-3
MOST_CANDIDATES, WIDEST = 8, 100.0


def softmax_tempered(
    x: Any,
    dim: int,
    *,
    start: Sequence[float],
    front: Sequence[int],
    last: Sequence[int],
    chain: Stages,
    rough: Stages | None = None,
    octaves: int = 0,
    first_octaves: int = 0,
    joined: bool = True,
    mask: RowMask | None = None,
    **recorded: Any,
) -> Any:
    """softmax(x) over `dim`, any shape; `front` are the powers that lead to w, s is `rough` or a table of `octaves`.

    With a mask (`mask`), means are those of what a row sees, and the rest is dropped.
    """
    dims = (positive_dim(x, dim),)
    centred = mpc.sub(x, row_mean(x, dims, mask))
    w = power(poly(mpc.apply_mask(centred, *mask) if mask else centred, start), front)
    q = mpc.square(w)
    if first_octaves:
        q = mpc.mul(q, _table(row_mean(q, dims, mask), steps(first_octaves, 1.0)))
    half = row_mean(mpc.square(q) if first_octaves else power(w, (4,)), dims, mask)
    z = product(q, factors(half, rough), joined=joined) if rough else mpc.mul(q, _table(half, steps(octaves, 0.5)))
    e = power(z, last)
    return share(mpc.apply_mask(e, *mask) if mask else e, dims, chain, joined=joined, mask=mask)


def steps(octaves: int, power: float) -> list[float]:
    """s for h in [1, 2), [2, 4) ...: about 1/h^power at the middle, five significant bits."""
    exact = [2.0 ** -((k + 0.5) * power) for k in range(octaves)]
    units = [2.0 ** (math.ceil(math.log2(s)) - 5) for s in exact]
    return [round(s / unit) * unit for s, unit in zip(exact, units, strict=True)]


def _table(half: Any, values: Sequence[float]) -> Any:
    """s(h): the step of the octave that h lies in."""
    total = Sum()
    for k in range(1, len(values)):
        bit = mpc.less(half, 2.0**k)
        total.append(values[k - 1] - values[k], lambda bit=bit: bit)  # type: ignore[misc]
    return mpc.add(total.value(), values[-1])


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """Fewest rounds first among the accurate ones; then less accurate ones that are shorter."""
    seen = statistics.ranges
    centred = seen["centred"]
    if centred.high - centred.low > WIDEST:
        return ()
    low, high = rounded_up(centred.low), rounded_up(centred.high)
    half, quarter = (rounded_up(max(seen[f"{part}_denominator"].high, 1.2)) for part in ("half", "quarter"))
    count = statistics.site.shape[statistics.site.attributes["dim"]]  # type: ignore[call-overload]
    sharpness = min(float(count), rounded_up(seen["sharpness"].high * statistics.stretch))
    recorded = {"low": low, "high": high, "half": half, "margin": statistics.stretch}
    found: list[tuple[tuple[bool, int, float], Options]] = []
    for front in FRONTS:
        exponential = _exponential(low, high, front)
        if exponential.error > 2 * EXPONENTIAL_TOLERANCE:
            continue
        for rounds, rough, bottom, top in _roughs(half, quarter, sharpness, float(count)):
            for chain in plan_chains("reciprocal", bottom, top):
                coarse = chain.fixed_error > 2 * RECIPROCAL_TOLERANCE or exponential.error > EXPONENTIAL_TOLERANCE
                rank = (coarse, 2 + len(front) + rounds + 2 + len(chain.stages), exponential.error + chain.fixed_error)
                own = {"start": list(exponential.start), "front": list(front), "last": [4], "chain": chain.to_json()}
                if chain.error < 0.05:
                    found.append((rank, {**own, **rough, "bottom": bottom, "top": top, **recorded}))
    found.sort(key=lambda pair: pair[0])
    fitted = [options for _, options in found[:MOST_CANDIDATES]]
    finer = [{**options, "last": [2, 2]} for options in fitted[:2]]
    return tuple({**options, "joined": joined} for options in (*fitted, *finer) for joined in (True, False))


def _exponential(low: float, high: float, front: tuple[int, ...]) -> Exponential:
    return min((fit_exponential(low, high, d, (*front, 2, 4)) for d in (3, 4)), key=lambda e: e.fixed_error)


def _roughs(half: float, quarter: float, sharpness: float, count: float) -> list[tuple[int, Options, float, float]]:
    """(rounds, options, bottom and top of mean(e)) of chains that are good enough, and of the tables."""
    found: list[tuple[int, Options, float, float]] = []
    for length in range(2):
        chain = fit_chain("rsqrt", 1.0, half, (*(1,) * length, 4))
        if chain.fixed_error < ROUGHEST and half < MOST_CHAINED:
            bottom, top = (0.98 - chain.fixed_error) ** 4, sharpness * (1.02 + chain.fixed_error) ** 4
            found.append((length + 2, {"rough": chain.to_json()}, _digits(bottom), _digits(top)))
    octaves, first = math.ceil(math.log2(half)) + 1, math.ceil(math.log2(quarter)) + 1
    if 1 < octaves <= MOST_OCTAVES:
        found.append((4, {"octaves": octaves}, 0.45, _digits(2.25 * sharpness)))
    if octaves > MOST_OCTAVES >= first:
        chain = fit_chain("rsqrt", 0.45, _digits(2.25 * count), (1, 4))
        bottom, top = (0.98 - chain.fixed_error) ** 4, sharpness * (1.02 + chain.fixed_error) ** 4
        options = {"first_octaves": first, "rough": chain.to_json()}
        found.append((8, options, _digits(bottom), _digits(top)))
    return found


def _digits(number: float) -> float:
    return float(f"{number:.3g}")


def error(options: Options) -> float:
    """Bound on any weight's absolute error; that of the rough s cancels."""
    d = np.exp(chebyshev_grid(math.log(options["bottom"]), math.log(options["top"]), 4001))
    relative = float(np.abs(value(options["chain"], d) * d - 1).max())
    return exponential_error(options, (*options["front"], 2, 4), 1.0, relative)


def domain(options: Options) -> Domain:
    """What exp was fitted to, and the largest mean(exp(c / 2)); the smallest is 1 by Jensen's inequality."""
    return {"centred": (options["low"], options["high"]), "half_denominator": (1.0, options["half"])}


SOFTMAX_TEMPERED = Approximation(
    name="softmax_tempered",
    operator="softmax",
    level="bounded",
    source="fitted to the site; domains bounded by Jensen's and Cauchy and Schwarz's inequalities",
    function=softmax_tempered,
    candidates=candidates,
    error=error,
    preference=2,
    layout="joined",
    domain=domain,
    summary="for sharp rows: roughly normalised at a higher temperature, then raised to the power and divided",
)
