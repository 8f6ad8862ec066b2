"""Scales of long chains of products: every value keeps its significant bits, however many products come after it."""

from __future__ import annotations

import math

import torch
from torch import nn

from mpcc.lowering import Settings
from mpcc.pipeline import first_plan, prepare, schedule
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.engine.fidelity import off


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


class Mixers(nn.Module):
    """Sixteen convolutions without anything between them at which values could be cut for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.within = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, groups=8) for _ in range(8))
        self.across = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(8))
        self.norm = nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for within, across in zip(self.within, self.across, strict=True):
            x = across(x)
            x = x + within(x)
        return self.norm(x.permute(0, 2, 3, 1)).mean((1, 2))


def test_too_coarse_values_get_more_bits_before_a_program_is_refused() -> None:
    torch.manual_seed(0)
    model, x = Mixers().eval(), torch.randn(64, 8, 4, 4)
    prepared = prepare(model, (x[:1],), calibration=x)
    plan = first_plan(prepared, "bounded")
    with torch.no_grad():
        expected = model(x[:8])

    def share(tolerance: float) -> float:
        program = schedule(prepared, plan, Settings(least_bits=4.0, tolerance=tolerance))
        return off(Emulator(program).calls(x[:8, None])[0].reshape(8, 8), expected)

    coarse = share(math.inf)
    assert share(0.5 * coarse) < 0.5 * coarse
