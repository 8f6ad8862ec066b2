"""Members and error bounds that several softmaxes and norms share. Shared code, not a plug-in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from mpcc.rewrite import Domain, Options, SiteStatistics
from mpcc.rewrite.chains import Chain, plan_chains
from mpcc.rewrite.chains import options_of as chain_options
from mpcc.rewrite.chains import value as chain_value
from mpcc.rewrite.corrections import plan_corrected
from mpcc.rewrite.corrections import value as rsqrt_value
from mpcc.rewrite.exponentials import Exponential, error
from mpcc.rewrite.exponentials import options_of as exponential_options
from mpcc.rewrite.fit import chebyshev_grid

ROUGHEST = 0.05  # a member further off than this is not worth its rounds
EXPONENTIAL_TOLERANCE, RECIPROCAL_TOLERANCE = 7e-3, 1e-3  # of the default member
POINTS = 4001
NORM_MARGIN = 1.25
NORM_TOLERANCE, NORM_ROUGHEST = 1e-3, 0.15
FINEST = 1e-5  # a norm's finest member: for where an error of 1e-4 is still too large
FEW, FEW_BELOW, FEW_ABOVE = 64, 15.0, 0.9  # an extreme seen among so few rows says little about the next ones
TAIL, QUANTILES = 0.005, 17  # where the calibrated rows are, the tails left out


def between(quantity: str) -> Callable[[Options], Domain]:
    """The domain of a fit that recorded its range as `low` and `high`."""
    return lambda options: {quantity: (float(options["low"]), float(options["high"]))}


def signed_input(options: Options) -> Domain:
    """The domain of a fit on [low, high] of `sign` times the input."""
    low, high = sorted(float(options["sign"] * options[end]) for end in ("low", "high"))
    return {"input": (low, high)}


Member = TypeVar("Member", Exponential, Chain)


def softmax_members(
    exps: Sequence[Exponential], recips: Sequence[Chain], recorded: Mapping[str, Any]
) -> tuple[Options, ...]:
    """Every pair of an exponential and a reciprocal; first the shortest of each within the default tolerance."""
    exps = [member for member in exps if member.error < ROUGHEST]
    recips = [chain for chain in recips if chain.error < ROUGHEST]
    if not exps or not recips:
        return ()
    first = (first_within(exps, EXPONENTIAL_TOLERANCE)[0], first_within(recips, RECIPROCAL_TOLERANCE)[0])
    pairs = [first, *((e, r) for e in exps for r in recips if (e, r) != first)]
    members = [{**exponential_options(e), **chain_options(r), **recorded} for e, r in pairs]
    return tuple({**member, "joined": joined} for member in members for joined in (True, False))


def first_within(members: Sequence[Member], tolerance: float) -> list[Member]:
    """The members, shortest first as given, but before all the shortest one within the tolerance (else the last)."""
    if not members:
        return []
    first = next((member for member in members if member.fixed_error <= tolerance), members[-1])
    return [first] + [member for member in members if member != first]


def softmax_error(options: Options, floor: float) -> float:
    """Bound on a weight's error, from exp's error and 1/d's relative error on [1, ratio]."""
    d = chebyshev_grid(1.0, options["ratio"], POINTS)
    relative = float(np.abs(chain_value(options["chain"], d) * d - 1).max())
    return exponential_error(options, options["powers"], floor, relative)


def exponential_error(options: Options, powers: Sequence[int], floor: float, relative: float) -> float:
    """2 delta / (1 - 2 delta) with exp's error delta against max(floor, exp), and a division's relative error."""
    x = chebyshev_grid(options["low"], options["high"], POINTS)
    delta = error(options["start"], powers, x, floor=floor)
    return 1.0 if delta >= 0.25 else (1 + relative) * (1 + 2 * delta / (1 - 2 * delta)) - 1


def norm_members(statistics: SiteStatistics, quantity: str) -> tuple[Options, ...]:
    """Members that differ in their chain for 1/sqrt of the named quantity, the shortest accurate one first; then corrected
    chains (mpcc.rewrite.corrections), which are finer.

    The range is the calibrated one widened by the factor NORM_MARGIN, further where few rows were seen: variances have
    long tails below (an unusual image's class token) and short ones above. The fit is closest where nearly all
    calibrated rows are; a corrected one is as close on the whole range. Below the range the result is too small; far
    above, of several stages or corrected, it is wrong.
    """
    seen, rows = statistics.ranges[quantity], statistics.samples[quantity].numpy()
    few = min(1.0, FEW / len(rows))
    low = _digits(seen.low / NORM_MARGIN / (1 + FEW_BELOW * few))
    high = _digits(seen.high * NORM_MARGIN * (1 + FEW_ABOVE * math.sqrt(few)))
    spread = tuple(_digits(float(q)) for q in np.quantile(rows, np.linspace(TAIL, 1 - TAIL, QUANTILES)))
    chains = [chain for chain in plan_chains("rsqrt", low, high, spread, FINEST) if chain.error < NORM_ROUGHEST]
    plain = [
        {**chain_options(chain), "joined": joined}
        for chain in first_within(chains, NORM_TOLERANCE)
        for joined in ((True, False) if len(chain.stages) > 1 else (True,))
    ]
    fine = [
        {**chain_options(one.chain), "correction": list(one.correction), "joined": True}
        for one in plan_corrected(low, high, NORM_ROUGHEST)
    ]
    return tuple({**member, "low": low, "high": high, "margin": NORM_MARGIN} for member in (*plain, *fine))


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


def norm_error(options: Options) -> float:
    """Largest absolute error of an element within 8 standard deviations, weight 1: 8 times the relative error."""
    v = np.exp(chebyshev_grid(math.log(options["low"]), math.log(options["high"]), POINTS))
    return 8 * float(np.abs(rsqrt_value(options["chain"], options.get("correction", ()), v) * np.sqrt(v) - 1).max())
