"""exp(x) as a short polynomial raised to a power, fitted to the calibrated range (mpcc.fitting.exponentials).

    p(x)^m, p fitted to exp(x / m) for the least relative error;  one round for p and one for each power

Outside [`low`, `high`] (calibrated, widened by `margin`): flat below, growing more slowly than exp above.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.blocks import poly, power
from mpcc.approximate.families import between, error_on_range, first_within
from mpcc.fitting.exponentials import options_of, plan_exponentials
from mpcc.fitting.minimax import rounded_up

MARGIN = 1.25
TOLERANCE, ROUGHEST = 3e-3, 0.1


def exp_fitted(x: Any, *, start: Sequence[float], powers: Sequence[int], **recorded: Any) -> Any:
    """exp(x), any shape."""
    return power(poly(x, start), powers)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """By the number of rounds, the accurate default first."""
    seen = statistics.ranges["input"].widened(MARGIN)
    low, high = rounded_up(seen.low), rounded_up(seen.high)
    found = [candidate for candidate in plan_exponentials(low, high, 0.0) if candidate.error < ROUGHEST]
    recorded = {"low": low, "high": high, "margin": MARGIN}
    return tuple({**options_of(candidate), **recorded} for candidate in first_within(found, TOLERANCE))


EXP_FITTED = Approximation(
    name="exp_fitted",
    operator="exp",
    level="bounded",
    source="fitted to the site",
    function=exp_fitted,
    candidates=candidates,
    error=error_on_range(exp_fitted, torch.exp),
    domain=between("input"),
    summary="a short polynomial raised to a power",
)
