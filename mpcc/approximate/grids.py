"""Approximations by spline gates: one round for any function of one variable (`mpc.curve`), on a grid over the site's range.

    SILU_GRID = elementwise_grid("silu", silu, torch.nn.functional.silu)

The grid covers what calibration saw, widened: beyond its end a value meets the pieces of the other end, which is garbage. A plan
holds the grid alone; its pieces follow from the function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpcc.errors import PlanError
from mpcc.fitting.grids import DEEPEST, DEGREES, Grid, cheapest_grid, fit_grid, grids, largest_error
from mpcc.fitting.minimax import Function
from mpcc.ir import mpc
from mpcc.ir.curve import MOST_DEGREE, MOST_DEPTH

from .approximation import Approximation, Domain, Options
from .families import norm_range
from .site import SiteStatistics

GridOption = Sequence[float]
"""[low, step, depth, degree], as a plan has it."""
TOLERANCES = (1e-4, 1e-5)
"""Largest errors of the candidates of a curve, the default first. A gate's answers have steps: neighbouring pieces differ by
twice that at most, about as much as a unit of the place makes (`mpcc.lowering.curves.COARSER_BITS`), and both count among what
the noise on outputs hides (`mpcc.lowering.flood`). Ten times as coarse saved two fifths of the leaves and no byte between the
parties, and where these steps set the noise, it hid a twentieth of the answers."""
KINKED = (8e-3, 3e-3)
"""The same of a curve with kinks, whose error only halves with each doubling of the pieces."""
MARGIN = 2.0
"""Of a curve's range over what calibration saw: as much as the ring has room for (`Settings.margin`)."""
POSITIVE_MARGIN = 1.5
"""The same of a range that must not reach 0, as a factor on both of its ends."""
WIDEST = 4000.0
"""Ratio of the ends of such a range, beyond which steps that are small at the lower end are too many."""
NORM_TOLERANCES = (1.25e-4, 1e-3)
"""Relative errors of a norm's inverse root: an eighth of what its elements are off by at most (`norm_error`)."""


NORM_MARGIN = 1.28
"""Of the range of a norm's quantity over that of a chain, which degrades gently beyond it. Together with that one's margin of
1.25, the squares of values that are 1.25 times as large are within (`mpcc.approximate.logit_margin.STRETCH`)."""


def grid_of(option: GridOption) -> Grid:
    """The grid that a plan names. PlanError where there is none of these numbers."""
    try:
        low, step, depth, degree = map(float, option)
        fits = math.isfinite(low) and 0 < step < math.inf and depth in range(2, MOST_DEPTH + 1)
        fits = fits and degree in range(1, MOST_DEGREE + 1)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise PlanError(f"{list(option)} is not a grid", hint="[low, step, depth, degree]: a step above 0, 2^depth pieces")
    return Grid(low, step, int(depth), int(degree))


def on_grid(x: Any, function: Function, option: GridOption) -> Any:
    """function(x) by a spline gate."""
    grid = grid_of(option)
    return mpc.curve(x, grid.low, grid.step, fit_grid(function, grid))


def range_of(option: GridOption) -> tuple[float, float]:
    """Where a grid's error bound holds."""
    grid = grid_of(option)
    return grid.low, grid.high


def digits(value: float) -> float:
    """To four significant digits: short in a plan, and sites that are alike share their pieces."""
    return float(f"{value:.4g}")


def around(statistics: SiteStatistics) -> tuple[float, float]:
    """A range around all values of a site, widened about 0."""
    seen = statistics.ranges["input"]
    low, high = MARGIN * min(seen.low, 0.0), MARGIN * max(seen.high, 0.0)
    return digits(low - 1e-3), digits(high + 1e-3)


def above_zero(statistics: SiteStatistics) -> tuple[float, float] | None:
    """A range of positive values, widened by a factor; None where it reaches 0, or spans too much."""
    seen = statistics.ranges["input"]
    if seen.low <= 0 or seen.high / seen.low * POSITIVE_MARGIN**2 > WIDEST:
        return None
    return digits(seen.low / POSITIVE_MARGIN), digits(seen.high * POSITIVE_MARGIN)


def elementwise_grid(
    operator: str,
    curve: Function,
    *,
    function: Callable[..., Any] | None = None,
    ends: Callable[[SiteStatistics], tuple[float, float] | None] = around,
    weight: Function | None = None,
    kinks: tuple[float, ...] = (),
    summary: str = "one round: pieces of a grid over the calibrated range, none of which needs a comparison",
) -> Approximation:
    """`operator` by pieces of `curve`, which has `kinks` there, on a grid between the `ends` of a site.

    `weight(x)`: what an error counts when a grid is chosen (the one that is declared is absolute).
    `function(x, *, grid, **attributes)`: where the operator is more than the curve of its input.
    """

    def whole(x: Any, *, grid: GridOption, **recorded: Any) -> Any:
        return on_grid(x, curve, grid)

    def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
        reach = ends(statistics)
        found = [] if reach is None else grids(curve, *reach, KINKED if kinks else TOLERANCES, weight, kinks)
        return tuple({"grid": grid.to_json(), "margin": MARGIN} for grid in found)

    return Approximation(
        name=f"{operator}_grid",
        operator=operator,
        level="bounded",
        source="fitted to the site",
        function=function or whole,
        candidates=candidates,
        error=lambda options: largest_error(curve, grid_of(options["grid"]), kinks=kinks),
        domain=lambda options: {"input": range_of(options["grid"])},
        gate=True,
        summary=summary,
    )


def norm_grid(function: Callable[..., Any], operator: str, quantity: str) -> Approximation:
    """A norm whose `function` takes a grid for 1/sqrt of the named quantity."""

    def candidates(statistics: SiteStatistics) -> tuple[Options, ...]:
        reach = norm_range(statistics, quantity)
        low, high = digits(reach.low / NORM_MARGIN * reach.gain**2), digits(reach.high * NORM_MARGIN * reach.gain**2)
        tolerances = NORM_TOLERANCES if high <= WIDEST * low else ()
        found = [cheapest_from_zero(InverseRoot(low), high, tolerance) for tolerance in tolerances]
        return tuple(
            {"grid": grid.to_json(), "least": low, **reach.recorded} for grid in dict.fromkeys(found) if grid is not None
        )

    def domain(options: Options) -> Domain:
        low, high = (end / options.get("gain", 1.0) ** 2 for end in (options["least"], range_of(options["grid"])[1]))
        return {quantity: (0.0 if options.get("zeros") else low, high)}

    def error(options: Options) -> float:
        least = options["least"]
        return 8 * largest_error(InverseRoot(least), grid_of(options["grid"]), root, least=least)

    return Approximation(
        name=function.__name__,
        operator=operator,
        level="bounded",
        source="fitted to the site",
        function=function,
        candidates=candidates,
        error=error,
        domain=domain,
        gate=True,
        summary=f"1/sqrt({quantity.replace('_', ' ')}) in one round, on a grid over the calibrated range",
    )


@dataclass(frozen=True)
class InverseRoot:
    """1 / sqrt(x) down to `least`, and a straight line below.

    A mean square has no lower bound but 0: below its calibrated range the result is to be too small, not another.
    """

    least: float

    def __post_init__(self) -> None:
        if not self.least > 0:
            raise ValueError(f"the least value of a root is {self.least}, not above 0")

    def __call__(self, x: Any) -> Any:
        end = 0.75 * self.least  # the pieces that hold at `least` reach below it
        return np.where(x < end, end**-0.5 * (1.5 - 0.5 * x / end), np.maximum(x, end) ** -0.5)


def cheapest_from_zero(function: InverseRoot, high: float, tolerance: float) -> Grid | None:
    """The grid over [0, high] of fewest words within the relative tolerance from `least` on; if none is, over [least, high]."""
    found = (Grid.over(0.0, high, depth, degree) for degree in DEGREES for depth in range(2, DEEPEST + 1))
    fit = (grid for grid in found if largest_error(function, grid, root, least=function.least) <= tolerance)
    best = min(fit, key=lambda grid: grid.words, default=None)
    return best or cheapest_grid(function, function.least, high, tolerance, root)


def root(x: Any) -> Any:
    """sqrt(x)."""
    return x**0.5


def inverse_root(x: Any) -> Any:
    """1 / sqrt(x)."""
    return x**-0.5


def inverse(x: Any) -> Any:
    """1 / x."""
    return 1 / x


def itself(x: Any) -> Any:
    """x: what the error of 1 / x is multiplied by to be relative."""
    return x


def above_one(x: Any) -> Any:
    """1 / max(1, exp(x)): what an error of exp counts."""
    return np.exp(-np.maximum(x, 0.0))


def normalised(
    x: Any, dims: tuple[int, ...], eps: float, gain: float, grid: GridOption, least: float, *, centre: bool = True
) -> Any:
    """x (less its mean, if it is centred) over the root of its mean square, along `dims`; that is at least about `least`."""
    x = mpc.sub(x, mpc.mean(x, dims, keepdim=True)) if centre else x
    x = x if gain == 1.0 else mpc.scale(x, gain)
    square = mpc.add(mpc.mean(mpc.square(x), dims, keepdim=True), eps * gain**2)
    return mpc.mul(x, on_grid(square, InverseRoot(least), grid))
