"""Weights that no fixed point holds are refused by name, when a program is made of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mpcc
from mpcc.errors import RangeError


@pytest.mark.parametrize("value", [1e25, 1e30])
def test_weights_beyond_the_ring_are_named(value: float) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        model[0].weight[0, 0] = value
    with pytest.raises(RangeError) as caught:
        mpcc.compile(model, (torch.rand(1, 4),))
    assert caught.value.where == "0.weight"
