"""A channel that no synthetic input excites and one real picture does: what reads the answer names where it leaves its range."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

import mpcc
from mpcc.errors import OutsideRange
from mpcc.runtime.executable import Executable
from mpcc.verify.verification import Verification

SIDE = 8
LOUD = 60.0


class Planted(nn.Module):
    """[1, 1, 8, 8] -> [1, 4]. One feature is silent until a picture is nearly a certain one, then louder than all others.

    A random picture of 64 pixels in [-1, 1] matches the code by a fifth at most in a million; the threshold is at three quarters.
    """

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        code = torch.randint(0, 2, (SIDE * SIDE,), generator=generator).float() * 2 - 1
        self.register_buffer("code", code / (SIDE * SIDE))
        self.stem, self.norm, self.head = nn.Linear(SIDE * SIDE, 15), nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(1)
        rare = LOUD * torch.relu((pixels * self.code).sum(-1, keepdim=True) - 0.75)
        return self.head(self.norm(torch.cat([self.stem(pixels), rare], -1)))

    def picture(self) -> Tensor:
        """The one that excites it: [1, 1, 8, 8], as contrasty as a picture may be."""
        return self.code.sign().reshape(1, 1, SIDE, SIDE)


@pytest.fixture(scope="module")
def blind() -> tuple[Planted, Executable]:
    """Compiled without one input; its range is stated, so that the picture is within it."""
    torch.manual_seed(0)
    model = Planted().eval()
    return model, mpcc.optimize(model, (model.picture(),), input_range=(-1.0, 1.0), machine="reference").executable()


def test_emulation_names_the_site(blind: tuple[Planted, Executable]) -> None:
    model, executable = blind
    with pytest.warns(OutsideRange, match=r"norm\.layer_norm .*: variance: observed .* outside"):
        executable.emulate(model.picture())


def test_verify_names_the_site(blind: tuple[Planted, Executable]) -> None:
    model, executable = blind
    found = Verification(executable, [(model.picture(),)]).outside()
    assert ("norm.layer_norm", "variance") in {(one.site, one.quantity) for one in found}


def test_an_ordinary_picture_is_named_nowhere(blind: tuple[Planted, Executable]) -> None:
    _, executable = blind
    smooth = torch.linspace(-0.5, 0.5, SIDE * SIDE).reshape(1, 1, SIDE, SIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutsideRange)
        executable.emulate(smooth)
