"""1/sqrt(x) by Goldschmidt's iteration with deflation, as in SecFormer: eleven steps and no fit.

    y = x / eta in (0, 3);  r = 1 / sqrt(eta);  11 times: m = (3 - y) / 2, r = r m, y = y m^2

Converges while x stays in (0, 3 eta).
Source: Luo et al., SecFormer, arXiv 2401.00793, section on LayerNorm.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.families import between, error_on_range
from mpcc.ir import mpc

MARGIN = 1.25
STEPS = 11


def rsqrt_goldschmidt(x: Any, *, eta: float, steps: int = STEPS, **recorded: Any) -> Any:
    """1/sqrt(x) for x in (0, 3 eta), any shape."""
    y = mpc.scale(x, 1.0 / eta)
    m = _correction(y)
    r = mpc.scale(m, 1.0 / math.sqrt(eta))
    for _ in range(steps - 1):
        y = mpc.mul(y, mpc.square(m))
        m = _correction(y)
        r = mpc.mul(r, m)
    return r


def _correction(y: Any) -> Any:
    """(3 - y) / 2."""
    return mpc.add(mpc.scale(y, -0.5), 1.5)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """The published number of steps; only for positive x."""
    seen = statistics.ranges["input"]
    if seen.low <= 0:
        return ()
    low, high = float(f"{seen.low / MARGIN:.3g}"), float(f"{seen.high * MARGIN:.3g}")
    return ({"eta": high, "steps": STEPS, "low": low, "high": high, "margin": MARGIN},)


RSQRT_GOLDSCHMIDT = Approximation(
    name="rsqrt_goldschmidt",
    operator="rsqrt",
    level="bounded",
    source="SecFormer, arXiv 2401.00793",
    function=rsqrt_goldschmidt,
    candidates=candidates,
    error=error_on_range(rsqrt_goldschmidt, torch.rsqrt),
    domain=between("input"),
    summary="Goldschmidt's iteration after a public deflation",
)
