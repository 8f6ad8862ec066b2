"""Layers whose values are small, nothing, or of scales that hardly meet: emulated, they stay near the float model."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mpcc
from mpcc.calibration.basis import ENOUGH
from mpcc.runtime.executable import Executable


def error(model: nn.Module, inputs: Tensor) -> float:
    """The largest error of the emulated outputs, relative to the largest output. `inputs` [calls, 1, ...]."""
    executable = mpcc.compile(model.eval(), (inputs[0],), calibration=[(x,) for x in inputs] * ENOUGH)
    assert isinstance(executable, Executable)
    with torch.no_grad():
        pairs = [(executable.emulate(x)[0], model(x)) for x in inputs[:2]]
    return max(float((found - wanted).abs().max() / wanted.abs().max()) for found, wanted in pairs)


@pytest.mark.parametrize("size", [1e-3, 1e-2])
def test_a_norm_of_small_values(size: float) -> None:
    """Variances far below the resolution of a polynomial's argument: the layer works on multiples."""
    torch.manual_seed(0)
    linear = nn.Linear(32, 32, bias=False)
    nn.init.normal_(linear.weight, std=size)
    inputs = torch.randn(8, 1, 16, 32) * torch.logspace(-0.5, 0, 16).reshape(16, 1)
    assert error(nn.Sequential(linear, nn.LayerNorm(32)), inputs) < 0.05


def test_a_norm_of_padded_rows() -> None:
    """Rows of zeros: any factor serves, so that they do not widen the range of the fit without end."""

    class Normalised(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.normalize(F.pad(x, (0, 0, 0, 3)), dim=-1)

    torch.manual_seed(0)
    assert error(Normalised(), torch.randn(8, 1, 16, 32)) < 0.01


def test_a_norm_of_variances_far_apart() -> None:
    """Four orders of magnitude between the largest variance and the smallest."""
    torch.manual_seed(0)
    inputs = torch.randn(8, 1, 64, 32) * torch.logspace(-2, 0, 64).reshape(64, 1)
    assert error(nn.Sequential(nn.LayerNorm(32)), inputs) < 0.1


class Chain(nn.Module):
    """Convolutions of small weights with an activation of sixths, then attention without a layer in between."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)]
        self.layers, self.last = nn.ModuleList(layers), nn.Conv2d(8, 4, 1)
        for layer in layers:
            nn.init.normal_(layer.weight, std=0.03)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + F.hardswish(layer(x))
        y: Tensor = self.last(x).flatten(2)  # [1, 4, 64]
        return (y @ y.transpose(1, 2)).softmax(-1) @ y


def test_sums_whose_scales_are_no_multiples_of_one_another() -> None:
    """x^2 / 6 and x / 2 meet where there are few bits: the sum is made finer, and cut afterwards."""
    torch.manual_seed(0)
    assert error(Chain(), torch.randn(4, 1, 8, 8, 8)) < 0.05


class Padded(nn.Module):
    """A pad of ones, as linear attention counts its tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 1), value=1.0) * 2


def test_a_pad_of_ones() -> None:
    torch.manual_seed(0)
    assert error(Padded(), torch.randn(2, 1, 4, 8)) < 1e-3


class Pooled(nn.Module):
    """The pool of TensorFlow's "same": padded with minus infinity on the right alone."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2)


def test_a_max_pool_padded_with_minus_infinity() -> None:
    torch.manual_seed(0)
    assert error(Pooled(), torch.randn(2, 1, 3, 8, 8)) < 1e-3


class Settled(nn.Module):
    """A second output that no input changes: a loss that is zero outside training, an index that was drawn once."""

    def __init__(self) -> None:
        super().__init__()
        self.fixed = nn.Parameter(torch.arange(3.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, self.fixed + 1


def test_an_output_that_does_not_depend_on_the_input() -> None:
    x = torch.randn(1, 4)
    executable = mpcc.compile(Settled().eval(), (x,), calibration=[(x,)])
    assert isinstance(executable, Executable)
    torch.testing.assert_close(executable.emulate(x)[1], torch.arange(1.0, 4.0), rtol=0, atol=1e-3)
