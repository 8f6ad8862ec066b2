"""Softmax by spline gates: one round for exp, one for the reciprocal of the row's sum; two more where rows are sharp.

    c = x - mean(x)                     local; mean(exp(c)) >= 1 by Jensen's inequality, however low the row's maximum
    e = exp(c)                          a gate on a grid over the calibrated range of c
    d = mean(e)   in [1, R]             R calibrated;  1/d a gate, one a row
    y = e (1/d) / N

Where R is too large for a grid, the row is shifted first by about its own log-sum:

    h = mean(exp(c / 2))  in [1, H]     H is below the root of R
    e = exp(c - 2 log h)                whatever the error of the logarithm, it is the same along the row and cancels in y
    d = mean(e)   in [1, S]             S = mean(exp(c)) / h^2 calibrated, at most N by Cauchy and Schwarz; e is at most N S

A masked softmax takes all means over what the row sees, and drops the exponentials of the rest (`mask`).

Outside the grids it is wrong: beyond the lower end of c, exp is that of the upper end. The grids cover what calibration saw with
the logits stretched by `margin`, and more: exp by MARGIN of the range on either side, means by a factor of RATIO_MARGIN.

The mean shift is exact. The idea of a bound on the denominator without a maximum: this project's prototype.
"""

from __future__ import annotations

import math
from typing import Any

from mpcc.approximate import Approximation, Domain, Options, SiteStatistics
from mpcc.approximate.blocks import RowMask, positive_dim, row_mean, share_of
from mpcc.approximate.grids import GridOption, above_one, digits, grid_of, inverse, itself, on_grid, range_of
from mpcc.fitting.grids import Grid, cheapest_grid, grids, largest_error
from mpcc.fitting.minimax import exponential, logarithm
from mpcc.ir import mpc

MARGIN, RATIO_MARGIN = 0.2, 1.5
EXP_TOLERANCES, RECIPROCAL_TOLERANCE = (1e-3, 1.5e-4), 5e-4
"""Of exp against the larger of itself and 1 (the least mean); of the reciprocal, relatively. The default first."""
ROUGH = 0.05
"""Of the logarithm, absolutely, and of the exponential that it is taken of, against the larger of itself and 1: what d may be off
by is four times as much at most, which its grid allows for."""
WIDEST, STEEPEST, BELOW = 40.0, 1500.0, 0.9
"""Of a range of c, and of d, beyond which pieces or digits are too many; and how far below 1 roundings may bring d."""
WIDEST_SHARP, STEEPEST_SHARP = 150.0, 20000.0
"""The same of c and h where rows are shifted: exp is nothing over most of so wide a range."""


def softmax_grid(
    x: Any,
    dim: int,
    *,
    exp: GridOption,
    reciprocal: GridOption,
    half: GridOption | None = None,
    log: GridOption | None = None,
    mask: RowMask | None = None,
    **recorded: Any,
) -> Any:
    """softmax(x) over `dim`, any shape; `mask` is the mask (shape, bits) of what each row sees. `half`, `log`: for sharp rows."""
    if (half is None) != (log is None):
        raise ValueError("`half` and `log` go together")
    dims = (positive_dim(x, dim),)
    centred = mpc.sub(x, row_mean(x, dims, mask))
    centred = mpc.apply_mask(centred, *mask) if mask else centred
    if half is not None and log is not None:
        h = row_mean(_seen(on_grid(mpc.scale(centred, 0.5), exponential, half), mask), dims, mask)
        centred = mpc.sub(centred, mpc.scale(on_grid(h, logarithm, log), 2.0))
    e = _seen(on_grid(centred, exponential, exp), mask)
    return share_of(e, dims, [on_grid(row_mean(e, dims, mask), inverse, reciprocal)], joined=True, mask=mask)


def _seen(e: Any, mask: RowMask | None) -> Any:
    return mpc.apply_mask(e, *mask) if mask else e


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """With finer and finer exponentials, the default first; shifted rows where plain ones are too wide or too sharp."""
    centred, ratio = statistics.ranges["centred"], statistics.ranges["denominator"].high * RATIO_MARGIN
    more = MARGIN * (centred.high - centred.low) + 1e-3
    low, high = digits(min(centred.low, 0.0) - more), digits(centred.high + more)
    if high - low > WIDEST or ratio > STEEPEST:
        return _sharp(statistics, low, high)
    return _pairs(low, high, BELOW, ratio, {"margin": statistics.stretch})


def _sharp(statistics: SiteStatistics, low: float, high: float) -> tuple[Options, ...]:
    sharpness = statistics.ranges["sharpness"].high * RATIO_MARGIN
    most = statistics.ranges["half_denominator"].high * RATIO_MARGIN
    if high - low > WIDEST_SHARP or most > STEEPEST_SHARP or sharpness > STEEPEST:
        return ()
    half = cheapest_grid(exponential, digits(low / 2), digits(high / 2), ROUGH, above_one)
    log = cheapest_grid(logarithm, BELOW, digits(max(most, 1.2)), ROUGH)
    if half is None or log is None:
        return ()
    count = statistics.site.shape[statistics.site.attributes["dim"]]  # type: ignore[call-overload]
    top = math.log(count * sharpness) + 8 * ROUGH
    bottom = low - 2 * math.log(log.high) - 8 * ROUGH
    recorded = {"half": half.to_json(), "log": log.to_json(), "margin": statistics.stretch}
    return _pairs(digits(bottom), digits(top), BELOW * math.exp(-4 * ROUGH), sharpness * math.exp(4 * ROUGH), recorded)


def _pairs(low: float, high: float, least: float, most: float, recorded: dict[str, Any]) -> tuple[Options, ...]:
    """Exponentials on [low, high] with one reciprocal on [least, most]."""
    inverses = grids(inverse, digits(least), digits(max(most, 1.2)), (RECIPROCAL_TOLERANCE,), itself)
    exps = grids(exponential, low, high, EXP_TOLERANCES, above_one)
    return tuple({"exp": e.to_json(), "reciprocal": r.to_json(), **recorded} for e in exps for r in inverses)


def error(options: Options) -> float:
    """2 delta / (1 - 2 delta) with exp's error delta, and the reciprocal's relative error: bound on any weight's error."""
    delta = largest_error(exponential, grid_of(options["exp"]), above_one)
    delta *= math.exp(4 * ROUGH) if "log" in options else 1.0  # the mean that it is measured against may be so much smaller
    relative = largest_error(inverse, grid_of(options["reciprocal"]), itself)
    return 1.0 if delta >= 0.25 else (1 + relative) * (1 + 2 * delta / (1 - 2 * delta)) - 1


def domain(options: Options) -> Domain:
    """All grids; Jensen's inequality guards the lower ends of the means."""
    if "log" not in options:
        return {"centred": range_of(options["exp"]), "denominator": (1.0, range_of(options["reciprocal"])[1])}
    half: Grid = grid_of(options["half"])
    return {"centred": (2 * half.low, 2 * half.high), "half_denominator": (1.0, range_of(options["log"])[1])}


SOFTMAX_GRID = Approximation(
    name="softmax_grid",
    operator="softmax",
    level="bounded",
    source="fitted to the site; bounds by Jensen's, Cauchy's and Schwarz's inequalities",
    function=softmax_grid,
    candidates=candidates,
    error=error,
    domain=domain,
    gate=True,
    summary="row mean instead of row maximum; exp in one round, the reciprocal in one; two more for sharp rows",
)
