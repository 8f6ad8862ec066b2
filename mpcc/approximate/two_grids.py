"""A function by two spline gates where its range is too wide for one grid: a fine grid at the lower end, a coarse one beyond.

    f(x) = near(x) + beyond(x)         near     f(x) ramp(x) on a grid whose pieces end where the ramp has fallen to 0
                                       beyond   f(x) (1 - ramp(x)) on a coarse grid over the whole range

Both are gates of x, in the same round, and their sum is local. The fine grid has places all over the range and pieces at its
lower end alone, beyond which it is 0 (`mpc.curve`): that costs what its pieces do. Steep functions of quantities without a known
scale, such as the sum of a sharp softmax, have a relative error this way that does not depend on the quantity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpcc.fitting.grids import DEEPEST, WIDE_DEGREES, Grid, fit_grid, largest_error
from mpcc.fitting.minimax import Function
from mpcc.ir import mpc
from mpcc.ir.curve import MOST_DEPTH

from .grids import GridOption, digits, grid_of

START, FALL = 2.0, 4.0
"""In steps of the coarse grid: where the ramp begins to fall, and over how many it does. From two steps on the pieces of 1/x are
good enough; over four, a fall with three continuous derivatives is as good (degree 5: 5e-4 of each)."""
SHALLOWEST = 6
"""Of a coarse grid: half of a shallower one would be the ramp."""


@dataclass(frozen=True)
class Ramp:
    """1 up to `start`, 0 from `end` on, between them the polynomial of degree 7 that joins both with three derivatives."""

    start: float
    end: float

    def __call__(self, x: Any) -> Any:
        u = np.clip((x - self.start) / (self.end - self.start), 0.0, 1.0)
        return 1 - u**4 * (35 - 84 * u + 70 * u**2 - 20 * u**3)


@dataclass(frozen=True)
class Near:
    """What a function is at the lower end: it has fallen to 0 where the ramp has."""

    function: Function
    ramp: Ramp

    def __call__(self, x: Any) -> Any:
        return self.function(x) * self.ramp(x)


@dataclass(frozen=True)
class Beyond:
    """The rest: 0 up to where the ramp begins to fall, whatever the function is there."""

    function: Function
    ramp: Ramp

    def __call__(self, x: Any) -> Any:
        return self.function(np.maximum(x, self.ramp.start)) * (1 - self.ramp(x))


def ramp_of(coarse: Grid) -> Ramp:
    """The ramp that belongs to a coarse grid."""
    return Ramp(coarse.low + START * coarse.step, coarse.low + (START + FALL) * coarse.step)


def on_two_grids(x: Any, function: Function, near: GridOption, beyond: GridOption) -> Any:
    """function(x): `beyond` says where it holds."""
    fine, coarse = grid_of(near), grid_of(beyond)
    ramp = ramp_of(coarse)
    return mpc.add(
        mpc.curve(x, fine.low, fine.step, fit_grid(Near(function, ramp), fine), _depth(fine, coarse)),
        mpc.curve(x, coarse.low, coarse.step, fit_grid(Beyond(function, ramp), coarse)),
    )


def error_of_two(function: Function, near: GridOption, beyond: GridOption, weight: Function | None = None) -> float:
    """The largest that both may have together."""
    fine, coarse = grid_of(near), grid_of(beyond)
    ramp = ramp_of(coarse)
    return largest_error(Near(function, ramp), fine, weight) + largest_error(Beyond(function, ramp), coarse, weight)


def two_grids(
    function: Function, low: float, high: float, tolerance: float, weight: Function | None = None
) -> tuple[Grid, Grid] | None:
    """(near, beyond) on [low, high], each off by at most half the tolerance, of the fewest words; None where there are none."""
    best, least, low, high = None, math.inf, digits(low), digits(high)
    for degree in WIDE_DEGREES:
        for depth in range(SHALLOWEST, DEEPEST + 1):
            coarse = Grid.over(low, high, depth, degree)
            ramp, left = ramp_of(coarse), (least - coarse.words) / 2  # a short table's leaves are grown twice
            if left <= 0:
                break
            if largest_error(Beyond(function, ramp), coarse, weight) <= tolerance / 2:
                near = _cheapest(Near(function, ramp), coarse, tolerance / 2, weight, left)
                if near is not None:
                    best, least = (near, coarse), 2 * near.words + coarse.words
    return best


def _cheapest(function: Near, coarse: Grid, tolerance: float, weight: Function | None, most: float) -> Grid | None:
    """The grid of fewest words, and of fewer than `most`, up to the end of the ramp; its last two pieces are 0, so that what
    follows is no edge."""
    best = None
    for degree in WIDE_DEGREES:
        for depth in range(3, DEEPEST + 1):
            last = (1 << depth) - 1
            grid = Grid.over(coarse.low, coarse.low + (function.ramp.end - coarse.low) * last / (last - 2), depth, degree)
            if grid.words >= most:
                break
            if _depth(grid, coarse) <= MOST_DEPTH - 1 and largest_error(function, grid, weight) <= tolerance:
                best, most = grid, grid.words
                break
    return best


def _depth(fine: Grid, coarse: Grid) -> int:
    """Of places of the fine grid that cover what the coarse one does."""
    return max(fine.depth, math.ceil(math.log2((coarse.high - fine.low) / fine.step + 1)))
