"""1/x by Goldschmidt's iteration with deflation, as in SecFormer: thirteen rounds and no fit.

    y = x / eta in (0, 2);  r = 1 / eta;  13 times: m = 2 - y, r = r m, y = y m

The public eta brings x under 2. Converges while x stays in (0, 2 eta): 1 - y is squared at every step, so small x need
all 13.
Source: Luo et al., SecFormer, arXiv 2401.00793, section on division.
"""

from __future__ import annotations

from typing import Any

import torch

from mpcc.approximate import Approximation, Options, SiteStatistics
from mpcc.approximate.families import between, error_on_range
from mpcc.ir import mpc

MARGIN = 1.25
STEPS = 13


def reciprocal_goldschmidt(x: Any, *, eta: float, steps: int = STEPS, **recorded: Any) -> Any:
    """1/x for x in (0, 2 eta), any shape."""
    y = mpc.scale(x, 1.0 / eta)
    r = mpc.scale(mpc.add(mpc.neg(y), 2.0), 1.0 / eta)
    for _ in range(steps - 1):
        y = mpc.mul(y, mpc.add(mpc.neg(y), 2.0))
        r = mpc.mul(r, mpc.add(mpc.neg(y), 2.0))
    return r


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """The published number of steps, and the fewest that reach 1e-3 on the calibrated range; only for positive x."""
    seen = statistics.ranges["input"]
    if seen.low <= 0:
        return ()
    low, high = float(f"{seen.low / MARGIN:.3g}"), float(f"{seen.high * MARGIN:.3g}")
    found = [{"eta": high, "steps": k, "low": low, "high": high, "margin": MARGIN} for k in range(1, STEPS + 1)]
    residual = 1 - low / high
    enough = [candidate for candidate in found if residual ** (2 ** int(str(candidate["steps"]))) < 1e-3]
    return tuple({str(m["steps"]): m for m in (found[-1], *enough[:1])}.values())


RECIPROCAL_GOLDSCHMIDT = Approximation(
    name="reciprocal_goldschmidt",
    operator="reciprocal",
    level="bounded",
    source="SecFormer, arXiv 2401.00793",
    function=reciprocal_goldschmidt,
    candidates=candidates,
    error=error_on_range(reciprocal_goldschmidt, torch.reciprocal),
    domain=between("input"),
    summary="Goldschmidt's iteration after a public deflation",
)
