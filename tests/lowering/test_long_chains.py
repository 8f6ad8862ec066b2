"""Scales of long chains of products: every value keeps its significant bits, however many products come after it."""

from __future__ import annotations

import torch
from torch import nn

from mpcc.pipeline import first_plan, prepare, schedule
from mpcc.runtime.engine.emulate import Emulator


def test_relu_network_keeps_its_precision() -> None:
    """Ten layers whose values are only added and multiplied: read backwards, each asks for fewer bits than the next."""
    torch.manual_seed(0)
    layers = [part for _ in range(10) for part in (nn.Linear(16, 16), nn.ReLU())]
    model, x = nn.Sequential(*layers, nn.Linear(16, 4)).eval(), torch.randn(32, 16)
    with torch.no_grad():
        for part in layers[::2]:
            part.weight.mul_(2.0)  # so that something of the input is left at the end
        expected = model(x[:1])
    prepared = prepare(model, (x[:1],), calibration=x)
    found = Emulator(schedule(prepared, first_plan(prepared, "bounded")))(x[:1])[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01 * float(expected.abs().max()))


def test_threshold_far_above_small_values() -> None:
    """GELU's pieces end at 2 and more; values of a hundredth still have a scale at which those can be written."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 4)).eval(), torch.randn(32, 16)
    with torch.no_grad():
        model[0].weight.mul_(1e-4)
        model[0].bias.mul_(1e-4)
        expected = model(x[:1])
    prepared = prepare(model, (x[:1],), calibration=x)
    found = Emulator(schedule(prepared, first_plan(prepared, "bounded")))(x[:1])[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01 * float(expected.abs().max()))
