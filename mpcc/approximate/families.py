"""Candidates and error bounds that several softmaxes and norms share. Shared code, not a plug-in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from mpcc.fitting.corrections import plan_corrected
from mpcc.fitting.corrections import value as rsqrt_value
from mpcc.fitting.exponentials import Exponential, error
from mpcc.fitting.exponentials import options_of as exponential_options
from mpcc.fitting.factor_chains import Chain, plan_chains
from mpcc.fitting.factor_chains import options_of as chain_options
from mpcc.fitting.factor_chains import value as chain_value
from mpcc.fitting.minimax import chebyshev_grid

from . import Approximation, Domain, Options, SiteStatistics
from .piecewise import Reference, largest_error

ROUGHEST = 0.05  # a candidate further off than this is not worth its rounds
EXPONENTIAL_TOLERANCE, RECIPROCAL_TOLERANCE = 7e-3, 1e-3  # of the default candidate
POINTS = 4001
NORM_MARGIN = 1.25
NORM_TOLERANCE, NORM_ROUGHEST = 1e-3, 0.15
FINEST = 1e-5  # a norm's finest candidate: for where an error of 1e-4 is still too large
FEW, FEW_BELOW, FEW_ABOVE = 64, 15.0, 0.9  # an extreme seen among so few rows says little about the next ones
NOTHING = 1.01  # times eps: rows below that are nothing but zeros, to which eps was added
SMALL = 2.0**-6  # of a root's argument: below, a chain works on the argument times a power of four
TAIL, QUANTILES = 0.005, 17  # where the calibrated rows are, the tails left out


def between(quantity: str) -> Callable[[Options], Domain]:
    """The domain of a fit that recorded its range as `low` and `high`, and whether it also holds at nothing (`zeros`)."""
    return lambda options: {quantity: (0.0 if options.get("zeros") else float(options["low"]), float(options["high"]))}


def error_on_range(function: Callable[..., Any], reference: Reference) -> Callable[[Options], float]:
    """The largest absolute error of a fit on the range that it recorded as `low` and `high`."""
    return lambda options: largest_error(partial(function, **options), reference, options["low"], options["high"])


Fitted = TypeVar("Fitted", Exponential, Chain)


def softmax_candidates(
    exps: Sequence[Exponential], recips: Sequence[Chain], recorded: Mapping[str, Any]
) -> tuple[Options, ...]:
    """Every pair of an exponential and a reciprocal; first the shortest of each within the default tolerance."""
    exps = [one for one in exps if one.error < ROUGHEST]
    recips = [chain for chain in recips if chain.error < ROUGHEST]
    if not exps or not recips:
        return ()
    first = (first_within(exps, EXPONENTIAL_TOLERANCE)[0], first_within(recips, RECIPROCAL_TOLERANCE)[0])
    pairs = [first, *((e, r) for e in exps for r in recips if (e, r) != first)]
    found = [{**exponential_options(e), **chain_options(r), **recorded} for e, r in pairs]
    return tuple({**options, "joined": joined} for options in found for joined in (True, False))


def first_within(fits: Sequence[Fitted], tolerance: float) -> list[Fitted]:
    """The fits, shortest first as given, but before all the shortest one within the tolerance (else the last)."""
    if not fits:
        return []
    first = next((one for one in fits if one.fixed_error <= tolerance), fits[-1])
    return [first] + [one for one in fits if one != first]


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


def fitted_norm(function: Callable[..., Any], operator: str, quantity: str) -> Approximation:
    """A norm whose `function` takes a chain of polynomials for 1/sqrt of the named quantity."""
    return Approximation(
        name=function.__name__,
        operator=operator,
        level="bounded",
        source="fitted to the site",
        function=function,
        candidates=lambda statistics: norm_candidates(statistics, quantity),
        error=norm_error,
        layout="joined",
        domain=between(quantity),
        summary=f"1/sqrt({quantity.replace('_', ' ')}) by polynomials on the calibrated range",
    )


def norm_candidates(statistics: SiteStatistics, quantity: str) -> tuple[Options, ...]:
    """Candidates that differ in their chain for 1/sqrt of the named quantity, the shortest accurate one first; then corrected
    chains (mpcc.fitting.corrections), which are finer: these come first where the range is too wide for plain ones.

    The fit is closest where nearly all calibrated rows are; a corrected one is as close on the whole range. Below the range
    (see `norm_range`) the result is too small; far above, of several stages or corrected, it is wrong.
    """
    reach = norm_range(statistics, quantity)
    gain, ends = reach.gain, (reach.low * reach.gain**2, reach.high * reach.gain**2)
    spread = tuple(_digits(float(q) * gain**2) for q in np.quantile(reach.rows, np.linspace(TAIL, 1 - TAIL, QUANTILES)))
    chains = [chain for chain in plan_chains("rsqrt", *ends, spread, FINEST) if chain.error < NORM_ROUGHEST]
    plain = [
        {**chain_options(chain), "joined": joined}
        for chain in first_within(chains, NORM_TOLERANCE)
        for joined in ((True, False) if len(chain.stages) > 1 else (True,))
    ]
    fine = [
        {**chain_options(one.chain), "correction": list(one.correction), "joined": True}
        for one in plan_corrected(*ends, NORM_ROUGHEST)
    ]
    rough = not chains or min(chain.error for chain in chains) > ROUGHEST
    found = (*reversed(fine), *plain) if rough else (*plain, *fine)
    return tuple({**options, **reach.recorded} for options in found)


@dataclass(frozen=True)
class NormRange:
    """The range of a norm's quantity that a fit covers, its power of two (`gain`), and the rows that were seen there."""

    low: float
    high: float
    zeros: bool
    gain: float
    rows: Any

    @property
    def recorded(self) -> dict[str, Any]:
        """What a plan notes of it."""
        noted: dict[str, Any] = {"low": self.low, "high": self.high, "margin": NORM_MARGIN}
        return noted | ({"gain": self.gain} if self.gain != 1.0 else {}) | ({"zeros": True} if self.zeros else {})


def norm_range(statistics: SiteStatistics, quantity: str) -> NormRange:
    """The calibrated range widened by the factor NORM_MARGIN, further where few rows were seen: variances have long tails below
    (an unusual image's class token), which end at eps, and short ones above.

    Rows of nothing but zeros (padding), whose result is zero with any factor, do not count (`zeros`).
    Where it is small, `gain` is a power of two that brings the standard deviation near 1, and a fit is made there.
    """
    seen, rows = statistics.ranges[quantity], statistics.samples[quantity].numpy()
    few = min(1.0, FEW / len(rows))
    some = rows[rows > NOTHING * _eps(statistics)]
    zeros = 0 < len(some) and seen.low < some.min() / 2
    rows = some if zeros else rows
    low = _digits(max((float(rows.min()) if zeros else seen.low) / NORM_MARGIN / (1 + FEW_BELOW * few), _eps(statistics)))
    high = _digits(seen.high * NORM_MARGIN * (1 + FEW_ABOVE * math.sqrt(few)))
    return NormRange(low, high, zeros, unit_gain(low, high), rows)


def _eps(statistics: SiteStatistics) -> float:
    """What a norm adds under the root; torch's own choice where it is not said."""
    eps = statistics.site.attributes.get("eps")
    return eps if isinstance(eps, float) else torch.finfo(torch.float32).eps


def unit_gain(low: float, high: float) -> float:
    """The power of two whose square brings a range of small values [low, high] around 1; 1 where they are not small."""
    return 1.0 if low >= SMALL else 2.0 ** round(-math.log2(low * high) / 4)


def static_norm(function: Callable[..., Any], operator: str, quantity: str, summary: str) -> Approximation:
    """A norm whose `function` takes a public `factor`, the nearest to 1/sqrt of the named quantity over the calibrated rows."""

    def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
        if "factor" in statistics.fixed:
            return ({"factor": statistics.fixed["factor"]},)
        rows = statistics.samples[quantity].numpy()
        return ({"factor": _digits(float(np.sqrt(rows).mean() / rows.mean()))},)

    return Approximation(
        name=function.__name__,
        operator=operator,
        level="structural",
        source="THE-X, arXiv 2206.00216; factor fitted to the site",
        function=function,
        candidates=candidates,
        summary=summary,
        trained=("factor",),
    )


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


def norm_error(options: Options) -> float:
    """Largest absolute error of an element within 8 standard deviations, weight 1: 8 times the relative error."""
    square = options.get("gain", 1.0) ** 2
    v = np.exp(chebyshev_grid(math.log(options["low"] * square), math.log(options["high"] * square), POINTS))
    return 8 * float(np.abs(rsqrt_value(options["chain"], options.get("correction", ()), v) * np.sqrt(v) - 1).max())
