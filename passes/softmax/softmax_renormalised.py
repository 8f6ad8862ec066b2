"""Softmax of sharp rows without a maximum: a softmax at a higher temperature, then squared and normalised again.

    c = x - mean(x);   e = exp(c / 2^t);   q = e / mean(e)
    t times:           s = q^2;            q = s / mean(s)
    y = q / N

Each q is softmax(x / 2^k) * N, so mean(q) = 1 and mean(q^2) lies in [1, N], whatever the logits are: from the first
normalisation on every reciprocal has a static domain. Only the first denominator is calibrated, and it is the 2^t-th
root of the plain one (power means: mean(e^(c/m)) <= mean(e^c)^(1/m)). The errors of all reciprocals but the last
cancel in the next normalisation, so their chains may be rough.

For trained models, whose mean-shifted denominators reach 10^6 and more, where `softmax_mean_shift` has no room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpcc.approximate import Approximation, Domain, Options, SiteStatistics
from mpcc.approximate.blocks import Stages, factors, poly, positive_dim, power, product
from mpcc.fitting import exponentials, factor_chains
from mpcc.fitting.minimax import chebyshev_grid, rounded_up
from mpcc.ir import mpc

MARGIN = 1.25
RATIO_MARGIN = 4.0  # on the plain denominator; its 2^t-th root is what is fitted
ROUGH, FINE = (0.12, 0.25, 0.4, 0.55), 1e-3  # of the reciprocals before the last one, and of the last one
EXP_TOLERANCE = 6e-3
WIDEST_FIRST = 200.0


def softmax_renormalised(
    x: Any, dim: int, *, start: Sequence[float], powers: Sequence[int], chain: Stages, steps: Sequence[Stages], **recorded: Any
) -> Any:
    """softmax(x) over `dim`, any shape; `steps` are the chains of the t later normalisations."""
    dims = (positive_dim(x, dim),)
    centred = mpc.sub(x, mpc.mean(x, dims, keepdim=True))
    q = power(poly(mpc.scale(centred, 2.0 ** -len(steps)), start), powers)
    q = _normalised(q, dims, chain)
    for step in steps:
        q = _normalised(mpc.square(q), dims, step)
    return mpc.scale(q, 1.0 / int(x.shape[dims[0]]))


def _normalised(q: Any, dims: tuple[int, ...], chain: Stages) -> Any:
    """q / mean(q) by a chain of factors of the reciprocal."""
    return product(q, factors(mpc.mean(q, dims, keepdim=True), chain), joined=True)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """Per number of halvings and roughness of the first reciprocals one candidate, fewest rounds first."""
    centred = statistics.ranges["centred"].widened(MARGIN)
    shape, dim = statistics.site.shape, int(str(statistics.site.attributes.get("dim", -1)))
    ratio = statistics.ranges["denominator"].high
    found = [_candidate(centred.low, centred.high, ratio, shape[dim], t, rough) for t in (1, 2, 3, 4) for rough in ROUGH]
    usable = sorted((m for m in found if m is not None), key=lambda m: (m[1] > 2 * EXP_TOLERANCE, m[0]))
    return tuple({str(m[2]): m[2] for m in usable}.values())  # two roughnesses may give one candidate


def _candidate(
    low: float, high: float, ratio: float, tokens: int, t: int, rough: float
) -> tuple[int, float, Options] | None:
    """(rounds, error of exp, options) with t halvings; None when the first denominator is out of reach."""
    first = (ratio * RATIO_MARGIN) ** (0.5**t)
    if first > WIDEST_FIRST:
        return None
    low, high, first = rounded_up(low / 2**t), rounded_up(high / 2**t), rounded_up(max(first, 1.5))
    exponential = exponentials.choose_exponential(low, high, EXP_TOLERANCE / 2**t)
    chain = factor_chains.choose_chain("reciprocal", 1.0, first, rough)
    steps, slack = [], chain.fixed_error
    for k in range(t):
        if slack > 0.75:
            return None
        bottom, top = 1 / rounded_up((1 - slack) ** -2), rounded_up(tokens * (1 + slack) ** 2)
        step = factor_chains.choose_chain("reciprocal", bottom, top, FINE if k == t - 1 else rough)
        steps.append(step)
        slack = step.fixed_error
    if slack > 10 * FINE:
        return None
    rounds = exponential.rounds + t + sum(len(c.stages) + 1 + (len(c.stages) > 1) for c in (chain, *steps))
    options: dict[str, Any] = {
        **exponentials.options_of(exponential),
        **factor_chains.options_of(chain),
        "steps": [step.to_json() for step in steps],
        **{"low": low, "high": high, "ratio": first, "tokens": tokens, "margin": MARGIN},
    }
    return rounds, exponential.fixed_error * 2**t, options


def error(options: Options) -> float:
    """Bound on any weight's absolute error: exp's error at the temperature, amplified, and the last reciprocal's."""
    t = len(options["steps"])
    x = chebyshev_grid(options["low"], options["high"], 4001)
    delta = exponentials.error(options["start"], options["powers"], x, floor=1.0)
    amplified = (1 + delta) ** (2**t) / (1 - delta) ** (2**t) - 1
    slack = _slack(options)
    d = chebyshev_grid((1 - slack) ** 2, options["tokens"] * (1 + slack) ** 2, 4001)
    last = float(np.abs(factor_chains.value(options["steps"][-1], d) * d - 1).max())
    return float(min(1.0, (1 + amplified) * (1 + last) - 1))


def _slack(options: Options) -> float:
    """The relative error of the last reciprocal but one."""
    ranges, slack = [(1.0, options["ratio"])], 0.0
    for chain in (options["chain"], *options["steps"][:-1]):
        d = chebyshev_grid(*ranges[-1], 4001)
        slack = float(np.abs(factor_chains.value(chain, d) * d - 1).max())
        ranges.append(((1 - slack) ** 2, options["tokens"] * (1 + slack) ** 2))
    return slack


def domain(options: Options) -> Domain:
    """What exp was fitted to, and the largest first denominator, as power means bound it; later ones are static."""
    t = 2.0 ** len(options["steps"])
    return {"centred": (options["low"] * t, options["high"] * t), "denominator": (1.0, options["ratio"] ** t)}


SOFTMAX_RENORMALISED = Approximation(
    name="softmax_renormalised",
    operator="softmax",
    level="bounded",
    source="fitted to the site; static denominators by repeated squaring and normalising",
    function=softmax_renormalised,
    candidates=candidates,
    error=error,
    domain=domain,
    summary="softmax at a higher temperature, squared and normalised t times: for sharp rows",
)
