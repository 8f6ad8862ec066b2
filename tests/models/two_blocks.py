"""A transformer of two blocks, as small as can be: what the guard's tests count."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """[batch, tokens, 8] -> the same: attention without a mask, then one gelu."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.attn, self.act, self.fc = nn.Softmax(-1), nn.GELU(), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.q(x) @ self.k(x).transpose(-1, -2) / 8**0.5) @ self.v(x)
        return x + self.act(self.fc(x))


class TwoBlocks(nn.Module):
    """[1, 4, 8] -> [1, 3]"""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean(1))


def two_blocks() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The model and an example of its input."""
    torch.manual_seed(0)
    return TwoBlocks().eval(), (torch.randn(1, 4, 8),)
