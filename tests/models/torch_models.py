"""Small Vision Transformers that the front-end tests capture."""

from __future__ import annotations

import torch
from torch import nn


class Block(nn.Module):
    """Pre-norm block with packed queries, keys and values."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.drop = nn.Dropout(0.1)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, dim = x.shape
        packed = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, dim // self.heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + self.drop(self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim)))
        x += self.mlp(self.norm2(x))
        return x


class DigitsViT(nn.Module):
    """8 x 8 images, patches of 2 x 2, a class token."""

    def __init__(self, dim: int = 16, depth: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, dim, 2, 2)
        self.cls = nn.Parameter(torch.randn(1, 1, dim))
        self.pos = nn.Parameter(torch.randn(1, 17, dim))
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        return self.head(self.norm(self.blocks(x))[:, 0])


def images(batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 1, 8, 8)


class Small(nn.Module):
    """[batch, 2, 4, 4] -> [batch, 5]: weights, buffers, a list, a region without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(2, 4, 2), nn.BatchNorm2d(4), nn.Linear(36, 5)
        self.register_buffer("shift", torch.ones(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            t = self.norm(self.stem(x)).flatten(1)
        first, second = nn.functional.gelu(t, approximate="tanh").chunk(2, 1)
        return (self.head(torch.cat([first, second], 1)) + self.shift).softmax(-1)
