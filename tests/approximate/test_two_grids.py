"""A function on two grids: one that no single grid spans, right to a relative error from its steep end to the far one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mpcc.approximate.grids import InverseRoot, inverse, itself, root
from mpcc.approximate.two_grids import error_of_two, on_two_grids, two_grids
from mpcc.fitting.grids import grids

Weight = Callable[[Any], Any]


@pytest.mark.parametrize("high", [3e3, 8e4, 3e5])
@pytest.mark.parametrize(("function", "weight"), [(inverse, itself), (InverseRoot(0.9), root)])
def test_its_error_is_within_the_tolerance_everywhere(function: Weight, weight: Weight, high: float) -> None:
    pair = two_grids(function, 0.9, high, 1e-3, weight)
    assert pair is not None
    near, beyond = (grid.to_json() for grid in pair)
    assert error_of_two(function, near, beyond, weight) <= 1e-3
    x = np.exp(np.random.default_rng(0).uniform(math.log(0.9), math.log(high), 20_000))
    off = (on_two_grids(torch.from_numpy(x), function, near, beyond).numpy() - function(x)) * weight(x)
    assert np.abs(off).max() <= 1e-3


def test_one_grid_does_not_reach_so_far() -> None:
    assert grids(inverse, 0.9, 8e4, [1e-3], itself) == []


def test_it_is_not_a_number_outside_its_range() -> None:
    pair = two_grids(inverse, 0.9, 8e4, 1e-3, itself)
    assert pair is not None
    found = on_two_grids(torch.tensor([0.5, 1e5, 2.0]), inverse, *(grid.to_json() for grid in pair))
    assert found.isnan().tolist() == [True, True, False]
