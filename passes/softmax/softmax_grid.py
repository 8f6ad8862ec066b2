"""Softmax by spline gates: one round for exp, one for the reciprocal of the row's sum; two or four more for very sharp rows.

    c = x - mean(x)                     local; mean(exp(c)) >= 1 by Jensen's inequality, however low the row's maximum
    e = exp(c)                          a gate on a grid over the calibrated range of c
    d = mean(e)   in [1, R]             R calibrated;  1/d a gate, one a row
    y = e (1/d) / N

Where R is too large for one grid, 1/d is on two, in the same round (`mpcc.approximate.two_grids`). Where it is too large for
these or for fixed point (LARGEST_RATIO), the row is shifted first by about its own log-sum at a higher temperature t, two rounds
more:

    h = mean(exp(c / t))  in [1, H]     H calibrated, less than the t-th root of R
    c = c - t log h + E                 whatever the error of the logarithm, it is the same along the row and cancels in y;
                                        E is what it may be at most, so that mean(exp(c / t)) stays at least 1
    d = mean(e)   in [1, S exp(2 E)]    S = mean(exp(c)) / h^t, at most N^(t - 1) whatever the row (power means)

The wider the logits, the higher t: 2, 3, and where that is not enough two such shifts, the second at a lower temperature, whose
h is at most N^(t / t2 - 1) whatever the row.

A masked softmax takes all means over what the row sees, and drops the exponentials of the rest (`mask`).

Outside the grids it is wrong: beyond the lower end of c, exp is that of the upper end. The grids cover what calibration saw with
the logits stretched by `margin`, and more: exp by MARGIN of the range on either side (SHARP_MARGIN where rows are shifted), means
by a factor of RATIO_MARGIN.

The mean shift is exact. The idea of a bound on the denominator without a maximum: this project's prototype.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mpcc.approximate import Approximation, Domain, Options, SiteStatistics
from mpcc.approximate.blocks import RowMask, positive_dim, row_mean, share_of
from mpcc.approximate.grids import GridOption, above_one, digits, grid_of, inverse, itself, on_grid, range_of
from mpcc.approximate.two_grids import error_of_two, on_two_grids, two_grids
from mpcc.fitting.grids import WIDE_DEGREES, Grid, grids, largest_error
from mpcc.fitting.minimax import Function, exponential, logarithm
from mpcc.ir import mpc

MARGIN, SHARP_MARGIN, RATIO_MARGIN = 0.2, 0.1, 1.5
"""Of a range of c, on either side, without and with shifts (then ranges are wide, and h leaves its own sooner); of means, a
factor."""
EXP_TOLERANCES, RECIPROCAL_TOLERANCES = (2e-3, 1.5e-4), (5e-4, 5e-3)
"""Of exp against the larger of itself and 1 (the least mean), the default first; of the reciprocal, relatively, the coarser one
where no grid is as fine: it scales a row as a whole, and saves the two rounds of a shift."""
ROUGH_EXP, ROUGH_LOGS = 0.1, (0.05, 0.1, 0.2, 0.4, 0.7)
"""Of what a shift is made of: the exponential, as above, and the logarithm, absolutely, coarser where H asks for it."""
WIDEST, STEEPEST, LARGEST_MEAN = 150.0, 6000.0, 3e5
"""Of a range of c, of d and of h, beyond which grids are not even tried."""
LARGEST_RATIO = 3e5
"""Of d where 1/d is on two grids: beyond it, a row's weights and those of a row that is hardly sharp are too far apart to be as
fine as they need be at one scale."""
BELOW = 0.9
"""How far below 1 roundings may bring a mean."""
TEMPERATURES = ((2.0,), (3.0,), (4.0, 2.0), (6.0, 2.0))
"""Of the shifts that are tried, in this order."""
MEANS = {2.0: "half_denominator", 3.0: "third_denominator", 4.0: "quarter_denominator", 6.0: "sixth_denominator"}
"""What calibration calls mean(exp(c / t))."""
Shift = tuple[float, float, GridOption, GridOption]
"""[t, E, grid of exp(c / t), grid of log h], as a plan has it."""


def softmax_grid(
    x: Any,
    dim: int,
    *,
    exp: GridOption,
    reciprocal: GridOption,
    near: GridOption = (),
    shifts: Sequence[Shift] = (),
    mask: RowMask | None = None,
    **recorded: Any,
) -> Any:
    """softmax(x) over `dim`, any shape; `mask` is the mask (shape, bits) of what each row sees.

    `near`: the fine grid of the reciprocal's lower end, where it has two. `shifts`: for very sharp rows.
    """
    dims = (positive_dim(x, dim),)
    centred = mpc.sub(x, row_mean(x, dims, mask))
    centred = mpc.apply_mask(centred, *mask) if mask else centred
    for temperature, allowance, rough, log in shifts:
        h = row_mean(_seen(on_grid(mpc.scale(centred, 1 / temperature), exponential, rough), mask), dims, mask)
        centred = mpc.sub(centred, mpc.scale(mpc.sub(on_grid(h, logarithm, log), allowance / temperature), temperature))
    e = _seen(on_grid(centred, exponential, exp), mask)
    d = row_mean(e, dims, mask)
    inverted = on_two_grids(d, inverse, near, reciprocal) if near else on_grid(d, inverse, reciprocal)
    return share_of(e, dims, [inverted], joined=True, mask=mask)


def _seen(e: Any, mask: RowMask | None) -> Any:
    return mpc.apply_mask(e, *mask) if mask else e


def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
    """With finer and finer exponentials, the default first; with as few shifts as are enough."""
    recorded: dict[str, Any] = {"margin": statistics.stretch}
    row = _row(statistics, MARGIN)
    found = _pairs(row.low, row.high, statistics.ranges["denominator"].high * RATIO_MARGIN)
    for temperatures in () if found else TEMPERATURES:
        shifted = _shifted(statistics, _row(statistics, SHARP_MARGIN), temperatures)
        if shifted is not None:
            found = _pairs(shifted.low, shifted.high, shifted.mean)
            recorded["shifts"] = [list(shift) for shift in shifted.shifts]
        if found:
            break
    return tuple({**options, **recorded} for options in found)


@dataclass(frozen=True)
class Row:
    """Where the logits of a row are after some shifts, and what mean(exp) is at most."""

    low: float
    high: float
    mean: float = math.inf
    shifts: tuple[Shift, ...] = ()


def _row(statistics: SiteStatistics, margin: float) -> Row:
    centred = statistics.ranges["centred"]
    more = margin * (centred.high - centred.low) + 1e-3
    return Row(min(centred.low, 0.0) - more, centred.high + more)


def _shifted(statistics: SiteStatistics, row: Row, temperatures: Sequence[float]) -> Row | None:
    """After shifts at these temperatures; None where one needs a grid that there is not."""
    if row.high - row.low > WIDEST:
        return None
    count = float(statistics.site.shape[statistics.site.attributes["dim"]])  # type: ignore[call-overload]
    gap = (1 + 2 * SHARP_MARGIN) * statistics.ranges["gap"].low  # t log h is at most the row's maximum
    before, rest = 0.0, 0.0  # the temperature of the shift before, and how far its mean may be above 1
    for temperature in temperatures:
        if before:
            most = count ** (before / temperature - 1) * math.exp(2 * rest / temperature)
        else:
            most = statistics.ranges[MEANS[temperature]].high * RATIO_MARGIN
        rough = _first_grid(exponential, row.low / temperature, row.high / temperature, (ROUGH_EXP,), above_one)
        log = _first_grid(logarithm, BELOW, max(most, 1.2), ROUGH_LOGS) if most <= LARGEST_MEAN else None
        if rough is None or log is None:
            return None
        # h >= 1 and mean(max(1, exp)) <= 2 h: an error of exp is at most twice as much of log h.
        rest = temperature * (largest_error(logarithm, log) + 2 * largest_error(exponential, rough, above_one))
        rest = float(f"{1.01 * rest:.3g}")
        sharp = count ** (temperature - 1)
        if temperature == 3:
            sharp = min(sharp, statistics.ranges["third_sharpness"].high * RATIO_MARGIN)
        row = Row(
            max(row.low - temperature * math.log(log.high), gap),
            min(row.high, temperature * math.log(count)) + 2 * rest,
            sharp * math.exp(2 * rest),
            (*row.shifts, (temperature, rest, rough.to_json(), log.to_json())),
        )
        before = temperature
    return replace(row, high=min(row.high, math.log(count * row.mean)))


def _first_grid(
    function: Function, low: float, high: float, tolerances: Sequence[float], weight: Function | None = None
) -> Grid | None:
    """The cheapest grid within the first tolerance that has one."""
    found = grids(function, digits(low), digits(high), tolerances, weight, degrees=WIDE_DEGREES)
    return found[0] if found else None


def _pairs(low: float, high: float, most: float) -> tuple[Options, ...]:
    """Exponentials on [low, high] with one reciprocal on [BELOW, most]."""
    reciprocal = _reciprocal(max(most, 1.2))
    if reciprocal is None or high - low > 2 * WIDEST:
        return ()
    exps = grids(exponential, digits(low), digits(high), EXP_TOLERANCES, above_one, degrees=WIDE_DEGREES)
    return tuple({"exp": e.to_json(), **reciprocal} for e in exps)


def _reciprocal(most: float) -> dict[str, Any] | None:
    """Of values in [BELOW, most], as fine as can be: on one grid, else on two."""
    for tolerance in RECIPROCAL_TOLERANCES:
        one = _first_grid(inverse, BELOW, most, (tolerance,), itself) if most <= STEEPEST else None
        if one is not None:
            return {"reciprocal": one.to_json()}
        two = two_grids(inverse, BELOW, most, tolerance, itself) if most <= LARGEST_RATIO else None
        if two is not None:
            return {"reciprocal": two[1].to_json(), "near": two[0].to_json()}
    return None


def error(options: Options) -> float:
    """2 delta / (1 - 2 delta) with exp's error delta, and the reciprocal's relative error: bound on any weight's error."""
    delta = largest_error(exponential, grid_of(options["exp"]), above_one)
    grid, near = options["reciprocal"], options.get("near")
    relative = error_of_two(inverse, near, grid, itself) if near else largest_error(inverse, grid_of(grid), itself)
    return 1.0 if delta >= 0.25 else (1 + relative) * (1 + 2 * delta / (1 - 2 * delta)) - 1


def domain(options: Options) -> Domain:
    """All grids; Jensen's inequality guards the lower ends of the means."""
    most = range_of(options["reciprocal"])[1]
    if not options.get("shifts"):
        return {"centred": range_of(options["exp"]), "denominator": (1.0, most)}
    (temperature, allowance, rough, log), *others = options["shifts"]
    low, high = range_of(rough)
    found = {"centred": (temperature * low, temperature * high), MEANS[temperature]: (1.0, range_of(log)[1])}
    lowest = range_of(options["exp"])[0]
    least = temperature * low - sum(t * math.log(range_of(grid)[1]) for t, _, _, grid in options["shifts"])
    if least < lowest * (1 + 1e-3):  # then the width of rows is what keeps them inside
        found["gap"] = (lowest, 0.0)
    if temperature == 3 and not others:
        found["third_sharpness"] = (1.0, most * math.exp(-2 * allowance))
    return found


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
    summary="row mean instead of row maximum; exp in one round, the reciprocal in one; two to four more for sharp rows",
)
