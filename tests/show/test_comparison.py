"""The rows of what was chosen and what it costs: each round is a row's that a reader can name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import mpcc
from mpcc.show.comparison import by_operator, lines

IMAGES = torch.randn((24, 5, 8), generator=torch.Generator().manual_seed(3))


class Block(nn.Module):
    """A pre-norm block of one head, whose norms' factors move behind linear layers and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.proj, self.fc1, self.fc2 = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.proj((q @ k.transpose(-2, -1)).softmax(-1) @ v)
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


def test_products_by_factors_that_moved_are_the_norms_and_the_softmaxs_own() -> None:
    """No row "mul": a layer multiplies nothing itself. The rows have all rounds, and the norms those of their products."""
    torch.manual_seed(0)
    made = mpcc.optimize(Block().eval(), (IMAGES[:1],), calibration=IMAGES, network="wan", machine="reference")
    found = lines(made.plan, made.baseline, made.estimate)
    assert {line.name.partition(" ")[0] for line in found} == {*made.plan.choices, "linear", "matmul", "output"}
    assert sum(line.after.rounds for line in found) == made.estimate.rounds
    assert sum(line.after.bytes for line in found) == made.estimate.bytes
    norms = next(line for line in by_operator(found, made.plan) if line.name == "layer_norm (2)")
    assert norms.after.rounds >= 2 * 2  # of each norm at least its squares and a product
