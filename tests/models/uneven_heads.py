"""A transformer block whose second head matters less than its first, so that scores of heads have a known order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

HEADS, TOKENS, DIM = 2, 6, 8


class Block(nn.Module):
    """A pre-norm block; the values of the second head are small, so that it matters less."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = nn.LayerNorm(DIM), nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.norm2, self.fc1, self.act, self.fc2 = nn.LayerNorm(DIM), nn.Linear(DIM, 16), nn.GELU(), nn.Linear(16, DIM)
        with torch.no_grad():
            self.qkv.weight[-DIM // 2 :] *= 0.05
            self.qkv.bias[-DIM // 2 :] *= 0.05

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(x)).reshape(*x.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = (query @ key.transpose(-2, -1) * 0.5).softmax(-1) @ value
        x = x + self.proj(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))
