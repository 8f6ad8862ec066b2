"""Spline gates in fixed point: at any scale of their argument, cut to few bits, as the pieces say; outside, another piece."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mpcc.fitting.grids import Grid, fit_grid, largest_error
from mpcc.fitting.minimax import gelu
from mpcc.ir import curve, mpc, online
from mpcc.lowering.curves import integers, stretched
from mpcc.program.layout import ring_of
from mpcc.runtime.engine.emulate import Emulator
from tests.models.programs import Threads, build

GRID = Grid.over(-8.0, 8.0, 5, 3)
PIECES = fit_grid(gelu, GRID)
ROUNDING = 2.0**-12
"""Of the places, the powers and the numbers of the pieces, at values of size 1 to 3."""
ERROR = 8e-4
"""Of the pieces (4e-4), of a longer step, and of the places."""


def gate(x: Any) -> Any:
    return mpc.curve(x, GRID.low, GRID.step, PIECES)


@pytest.mark.parametrize("factor", [1.0, -1.0, 1 / 3, 0.7071, 1 / 65, 3.0, 2.0**-20, 1e-6])
def test_any_scale_of_the_argument(factor: float) -> None:
    """A public factor only changes the scale: by odd ones, the grid's step is not what the integers can make."""
    made = build(lambda x: gate(mpc.scale(mpc.scale(x, factor), 1 / factor if abs(factor) > 0.5 else 1.0)))
    x = torch.randn(1, 5, 16)
    value = x if abs(factor) > 0.5 else x * factor
    found, expected = Emulator(made)(x)[0], torch.nn.functional.gelu(value)
    assert (found - expected).abs().max() < ERROR
    with Threads(made) as session:
        assert (session.run(x)[0] - expected).abs().max() < ERROR


def test_a_fine_argument_is_cut_before_it_is_opened() -> None:
    """Products before it leave many bits; those that tell the place are opened. Of the finest, a step has to be longer."""
    made = build(lambda x: gate(mpc.scale(mpc.add(x, mpc.scale(mpc.sum(x, (2,), True), 1 / 48)), 1.0)))
    opened = [n for n in made.online.graph.nodes if n.target is online.open_]
    assert [ring_of(n) for n in opened] and all(ring_of(n) <= 19 for n in opened)
    x = torch.randn(1, 5, 16)
    value = x + x.sum(2, keepdim=True) / 48
    assert (Emulator(made)(x)[0] - torch.nn.functional.gelu(value)).abs().max() < ERROR


def test_a_private_run_differs_from_the_emulation_by_at_most_two_errors_of_the_pieces() -> None:
    """The mask decides which of two neighbours is taken, so that over many runs both are seen."""
    made, x = build(gate), torch.linspace(-3.0, 3.0, 80).reshape(1, 5, 16)
    emulated, most = Emulator(made)(x)[0], 2 * largest_error(gelu, GRID) + ROUNDING
    with Threads(made) as session:
        runs = torch.stack([session.run(x)[0] for _ in range(6)])
    differences = (runs - emulated).abs()
    assert differences.max() <= most and (runs.amax(0) - runs.amin(0)).max() > ROUNDING


def test_outside_its_range_a_value_meets_the_other_end_and_the_reference_is_no_number() -> None:
    made = build(gate)
    x = torch.full((1, 5, 16), GRID.low - 2.25)  # 32 steps of the grid below GRID.low + 32 step - 2.25
    wrapped = GRID.low + 32 * GRID.step - 2.25
    assert (Emulator(made)(x)[0] - torch.nn.functional.gelu(torch.tensor(wrapped))).abs().max() < ERROR
    assert gate(x).isnan().all()


def test_a_longer_step_keeps_the_function() -> None:
    longer = stretched(PIECES, GRID.low, GRID.step, GRID.step * 1.06, 1 << GRID.depth)
    x = torch.linspace(-8.0, GRID.high, 5001, dtype=torch.float64)
    assert (mpc.curve(x, GRID.low, GRID.step * 1.06, longer) - torch.nn.functional.gelu(x)).abs().max() < 2 * ERROR


def test_pieces_of_large_numbers_have_units_of_their_own() -> None:
    pieces = ((1.0, 0.5), (2.0**20, 2.0**19))
    table, units = integers(pieces, 26)
    assert units[0] == 0 and units[1] > 0 and curve.largest_number(table) < curve.MOST_NUMBER
    assert [a * 2 ** (units[1] - 26) for a in (table[0][1], table[1][1])] == [2.0**20, 2.0**19]
