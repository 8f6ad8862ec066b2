"""A small Vision Transformer for 8x8 handwritten digits, trained in this folder by train.py.

Pre-norm, class token, patch 2, width 64, five blocks of four heads, MLP ratio 2, exact GELU, softmax; layers are
named as in timm. The input is [batch, 1, 8, 8], pixels of 0..16 after `(pixels - MEAN) / STD`; the output is
[batch, 10] logits.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

# Mean and standard deviation of the training pixels (train.py prints them).
MEAN, STD = 4.886, 6.018
WEIGHTS = Path(__file__).with_name("weights.safetensors")


class PatchEmbed(nn.Module):
    """An image [batch, channels, side, side] cut into patches: [batch, patches, dim]."""

    def __init__(self, patch: int, channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, kernel_size=patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention with one product for query, key and value."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # each [batch, heads, tokens, dim of a head]
        weights = (query @ key.transpose(-2, -1) * self.scale).softmax(dim=-1)
        return self.proj((weights @ value).transpose(1, 2).reshape(batch, tokens, dim))


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_ratio * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class DigitsViT(nn.Module):
    """[batch, channels, side, side] normalised images to [batch, classes] logits; the sizes are class attributes."""

    side, channels, classes, patch, dim, depth, heads, mlp_ratio = 8, 1, 10, 2, 64, 5, 4, 2

    def __init__(self) -> None:
        super().__init__()
        tokens = (self.side // self.patch) ** 2 + 1
        self.patch_embed = PatchEmbed(self.patch, self.channels, self.dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.dim))
        self.pos_embed = nn.Parameter(torch.randn(1, tokens, self.dim) * 0.02)
        self.blocks = nn.ModuleList(Block(self.dim, self.heads, self.mlp_ratio) for _ in range(self.depth))
        self.norm = nn.LayerNorm(self.dim)
        self.head = nn.Linear(self.dim, self.classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed(image)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def digits_vit() -> tuple[DigitsViT, tuple[Tensor, ...]]:
    """The trained model in evaluation mode, and an example input."""
    model = DigitsViT()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval(), (torch.zeros(1, DigitsViT.channels, DigitsViT.side, DigitsViT.side),)
