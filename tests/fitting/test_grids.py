"""Pieces of a grid: each good on both of its neighbours, the grid as asked for, the cheapest within a tolerance."""

from __future__ import annotations

import numpy as np
import pytest

from mpcc.fitting.grids import MANTISSAS, Grid, cheapest_grid, fit_grid, largest_error
from mpcc.fitting.minimax import Function, exponential, gelu, hardswish, tanh


def inverse(x: np.ndarray) -> np.ndarray:
    return 1 / x


@pytest.mark.parametrize(
    ("function", "low", "high"), [(gelu, -8.0, 8.0), (exponential, -12.0, 2.0), (inverse, 0.9, 60.0), (tanh, -3.0, 4.0)]
)
def test_the_cheapest_grid_keeps_the_tolerance_by_both_pieces_everywhere(function: Function, low: float, high: float) -> None:
    grid = cheapest_grid(function, low, high, 1e-3)
    assert grid is not None and grid.low == low and high <= grid.high <= high + (high - low) / 7
    pieces, x = np.array(fit_grid(function, grid)), np.linspace(low, high, 20_011)
    place = (x - grid.low) / grid.step
    number = np.minimum(place.astype(int), len(pieces) - 2)
    for k in (0, 1):
        t = place - number - k
        found = sum(pieces[number + k, n] * t**n for n in range(grid.degree + 1))
        assert np.abs(found - function(x)).max() <= largest_error(function, grid) <= 1e-3


def test_a_step_is_a_short_multiple_of_a_power_of_two() -> None:
    for width in np.geomspace(1e-2, 1e3, 50):
        step = Grid.over(0.5, 0.5 + width, 5, 3).step
        assert width / 31 * (1 - 1e-6) <= step <= width / 31 * 8 / 7
        mantissa = step / 2.0 ** np.floor(np.log2(step))
        assert min(abs(mantissa - m) for m in MANTISSAS) < 1e-12


def test_an_error_at_a_kink_is_seen() -> None:
    grid = Grid.over(-8.0, 8.5, 5, 2)
    pieces, x = np.array(fit_grid(hardswish, grid)), np.append(np.linspace(-8.0, 8.0, 9973), [-3.0, 3.0])
    place = (x - grid.low) / grid.step
    number = np.minimum(place.astype(int), len(pieces) - 2)
    found = [sum(pieces[number + k, n] * (place - number - k) ** n for n in range(3)) - hardswish(x) for k in (0, 1)]
    assert max(np.abs(error).max() for error in found) <= largest_error(hardswish, grid, None, (-3.0, 3.0))


def test_what_no_grid_reaches_has_none() -> None:
    assert cheapest_grid(inverse, 1e-4, 1e4, 1e-6) is None
