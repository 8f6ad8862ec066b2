"""Vision Transformers of MPCViT's structure (arXiv 2211.13955): the paper's two, and one that two cores can train.

Pre-norm, a class token, patches by a convolution, MLP ratio 2, exact GELU, query, key and value without bias.
`VIT_7_4_32` (CIFAR) and `VIT_9_12_64` (Tiny-ImageNet) are the paper's sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Size:
    """An architecture: [batch, channels, side, side] images to [batch, classes] logits."""

    side: int
    channels: int
    classes: int
    patch: int
    dim: int
    depth: int
    heads: int
    ratio: int = 2


VIT_7_4_32 = Size(32, 3, 10, 4, 256, 7, 4)
VIT_7_4_32_100 = Size(32, 3, 100, 4, 256, 7, 4)
VIT_9_12_64 = Size(64, 3, 200, 4, 192, 9, 12)
SMALL = Size(28, 1, 10, 7, 48, 4, 4)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, dim))


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """A block of the paper's code: the second norm acts on the residual stream itself."""

    def __init__(self, dim: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim, ratio * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm2(x + self.attn(self.norm1(x)))
        return x + self.mlp(x)


class Vit(nn.Module):
    """The model of a size."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        tokens = (size.side // size.patch) ** 2 + 1
        self.patch_embed = nn.Conv2d(size.channels, size.dim, size.patch, size.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.dim))
        self.pos_embed = nn.Parameter(torch.randn(1, tokens, size.dim) * 0.02)
        self.blocks = nn.ModuleList(Block(size.dim, size.heads, size.ratio) for _ in range(size.depth))
        self.norm, self.head = nn.LayerNorm(size.dim), nn.Linear(size.dim, size.classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def example(size: Size) -> tuple[Tensor]:
    """One image of zeros."""
    return (torch.zeros(1, size.channels, size.side, size.side),)
