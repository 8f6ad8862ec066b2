"""exp(x) as its limit (1 + x / 2^T)^(2^T), as in CrypTen and MPCFormer, for x <= 0: T squarings, T rounds.

    T = 4 is 1.7e-2 off, 5 8.6e-3, 6 4.3e-3, 7 2.1e-3, 8 1.1e-3

It is an even function around -2^T: right above -2^T, growing again below. Sites whose widened range reaches above
2 or below -2^T have no such candidate.
Source: Knott et al., CrypTen, NeurIPS 2021, arXiv 2109.00984.
"""

from __future__ import annotations

from typing import Any

import torch

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.blocks import power
from mpcc.approximate.families import between, error_on_range
from mpcc.fitting.minimax import rounded_up
from mpcc.ir import mpc

MARGIN = 1.25
HIGHEST = 2.0


def exp_limit(x: Any, *, squarings: int, **recorded: Any) -> Any:
    """exp(x), any shape."""
    return power(mpc.add(mpc.scale(x, 2.0**-squarings), 1.0), (2,) * squarings)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """T = 8 as published, then 7 to 4."""
    seen = statistics.ranges["input"].widened(MARGIN)
    low, high = rounded_up(seen.low), rounded_up(seen.high)
    found = [{"squarings": t, "low": low, "high": high, "margin": MARGIN} for t in (8, 7, 6, 5, 4)]
    return tuple(m for m in found if high <= HIGHEST and low > -(2.0 ** int(str(m["squarings"]))))


EXP_LIMIT = Approximation(
    name="exp_limit",
    operator="exp",
    level="bounded",
    source="CrypTen, arXiv 2109.00984",
    function=exp_limit,
    candidates=candidates,
    error=error_on_range(exp_limit, torch.exp),
    domain=between("input"),
    summary="(1 + x / 2^T)^(2^T) for x <= 0",
)
