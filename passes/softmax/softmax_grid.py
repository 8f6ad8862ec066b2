"""Softmax by two spline gates: one round for exp, one for the reciprocal of the row's sum.

    c = x - mean(x)                     local; sum(exp(c)) >= N by Jensen's inequality, however low the row's maximum
    e = exp(c)                          a gate on a grid over the calibrated range of c
    d = mean(e)   in [1, R]             R calibrated;  1/d a gate, one a row
    y = e (1/d) / N

A masked softmax takes both means over what the row sees, and drops the exponentials of the rest (`mask`).

Outside the grids it is wrong: beyond the lower end of c, exp is that of the upper end. The grids cover what calibration saw with
the logits stretched by `margin`, and more: exp by MARGIN of the range on either side, d by a factor of RATIO_MARGIN.

The mean shift is exact. The idea of a bound on the denominator without a maximum: this project's prototype.
"""

from __future__ import annotations

from typing import Any

from mpcc.approximate import Approximation, Domain, Options, SiteStatistics
from mpcc.approximate.blocks import RowMask, positive_dim, row_mean, share_of
from mpcc.approximate.grids import GridOption, above_one, digits, grid_of, inverse, itself, on_grid, range_of
from mpcc.fitting.grids import grids, largest_error
from mpcc.fitting.minimax import exponential
from mpcc.ir import mpc

MARGIN, RATIO_MARGIN = 0.2, 1.5
EXP_TOLERANCES, RECIPROCAL_TOLERANCES = (1e-3, 1.5e-4), (5e-4,)
"""Of exp against the larger of itself and 1 (the least mean); of the reciprocal, relatively. The default first."""
WIDEST, STEEPEST, BELOW = 40.0, 1500.0, 0.9
"""Of a range of c, and of d, beyond which pieces or digits are too many; and how far below 1 roundings may bring d."""


def softmax_grid(
    x: Any, dim: int, *, exp: GridOption, reciprocal: GridOption, mask: RowMask | None = None, **recorded: Any
) -> Any:
    """softmax(x) over `dim`, any shape; `mask` is the mask (shape, bits) of what each row sees."""
    dims = (positive_dim(x, dim),)
    centred = mpc.sub(x, row_mean(x, dims, mask))
    e = on_grid(mpc.apply_mask(centred, *mask) if mask else centred, exponential, exp)
    e = mpc.apply_mask(e, *mask) if mask else e
    return share_of(e, dims, [on_grid(row_mean(e, dims, mask), inverse, reciprocal)], joined=True, mask=mask)


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """Every pair of an exponential and a reciprocal, the default pair first. None where the rows are too wide."""
    centred, ratio = statistics.ranges["centred"], statistics.ranges["denominator"].high * RATIO_MARGIN
    more = MARGIN * (centred.high - centred.low) + 1e-3
    low, high = digits(min(centred.low, 0.0) - more), digits(centred.high + more)
    if high - low > WIDEST or ratio > STEEPEST:
        return ()
    exps = grids(exponential, low, high, EXP_TOLERANCES, above_one)
    inverses = grids(inverse, BELOW, digits(max(ratio, 1.2)), RECIPROCAL_TOLERANCES, itself)
    return tuple(
        {"exp": e.to_json(), "reciprocal": r.to_json(), "margin": statistics.stretch} for e in exps for r in inverses
    )


def error(options: Options) -> float:
    """2 delta / (1 - 2 delta) with exp's error delta, and the reciprocal's relative error: bound on any weight's error."""
    delta = largest_error(exponential, grid_of(options["exp"]), above_one)
    relative = largest_error(inverse, grid_of(options["reciprocal"]), itself)
    return 1.0 if delta >= 0.25 else (1 + relative) * (1 + 2 * delta / (1 - 2 * delta)) - 1


def domain(options: Options) -> Domain:
    """Both grids; Jensen's inequality guards the lower end of the second."""
    return {"centred": range_of(options["exp"]), "denominator": (1.0, range_of(options["reciprocal"])[1])}


SOFTMAX_GRID = Approximation(
    name="softmax_grid",
    operator="softmax",
    level="bounded",
    source="fitted to the site; bound by Jensen's inequality",
    function=softmax_grid,
    candidates=candidates,
    error=error,
    domain=domain,
    gate=True,
    summary="row mean instead of row maximum; exp in one round, the reciprocal in one",
)
