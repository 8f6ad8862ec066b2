"""Small Vision Transformers with the structures that real ones have; `MODELS` maps a name to (module, input)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

DIM, HEADS, SIDE = 8, 2, 3
TOKENS = SIDE * SIDE


class Attention(nn.Module):
    """Self-attention; `packing` says how query, key and value lie in the joint product."""

    def __init__(self, packing: str = "three first", layer_scale: bool = False) -> None:
        super().__init__()
        self.qkv, self.proj, self.packing = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM), packing
        self.gamma = nn.Parameter(torch.rand(DIM)) if layer_scale else None

    def unpack(self, packed: Tensor) -> tuple[Tensor, ...]:
        batch, tokens, _ = packed.shape
        if self.packing == "three first":
            return packed.reshape(batch, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.packing == "heads first":
            return packed.reshape(batch, tokens, HEADS, 3, -1).permute(3, 0, 2, 1, 4).unbind(0)
        return tuple(part.reshape(batch, tokens, HEADS, -1).transpose(1, 2) for part in packed.chunk(3, -1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.unpack(self.qkv(x))
        scores = (query @ key.transpose(-2, -1)) * (DIM // HEADS) ** -0.5
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(x.shape)
        result = self.proj(mixed)
        return result if self.gamma is None else result * self.gamma


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(DIM, 2 * DIM), nn.GELU(), nn.Linear(2 * DIM, DIM))


class Block(nn.Module):
    """Pre-norm; with `normed_residual` the residual adds the normalised value, as MPCViT does."""

    def __init__(self, packing: str = "three first", layer_scale: bool = False, normed_residual: bool = False) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(DIM), Attention(packing, layer_scale)
        self.norm2, self.mlp = nn.LayerNorm(DIM), mlp()
        self.normed_residual = normed_residual

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = (normed if self.normed_residual else x) + self.attn(normed)
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches of one pixel; `pool` is token, mean, sequence or distilled (two tokens that are averaged)."""

    def __init__(self, pool: str = "token", blocks: Callable[[], nn.Module] = Block) -> None:
        super().__init__()
        extra = {"token": 1, "distilled": 2}.get(pool, 0)
        self.patch, self.pool = nn.Conv2d(2, DIM, 1), pool
        self.tokens = nn.Parameter(torch.randn(1, extra, DIM)) if extra else None
        self.position = nn.Parameter(torch.randn(1, TOKENS + extra, DIM))
        self.blocks = nn.Sequential(blocks(), blocks())
        self.norm, self.head = nn.LayerNorm(DIM), nn.Linear(DIM, 3)
        self.attend = nn.Linear(DIM, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        if self.tokens is not None:
            x = torch.cat([self.tokens.expand(x.shape[0], -1, -1), x], 1)
        x = self.norm(self.blocks(x + self.position))
        if self.pool == "token":
            return self.head(x[:, 0])
        if self.pool == "distilled":
            return (self.head(x[:, 0]) + self.head(x[:, 1])) / 2
        if self.pool == "sequence":
            return self.head((self.attend(x).softmax(1).transpose(-1, -2) @ x).squeeze(-2))
        return self.head(x.mean(1))


class Torch(nn.Module):
    """torch's own encoder layers, post-norm, class token last."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(DIM, HEADS, 2 * DIM, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(DIM, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x)[:, -1])


class Windows(nn.Module):
    """Shifted windows with a relative position bias, then a merge of neighbouring tokens, as in Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = nn.LayerNorm(DIM), nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.table = nn.Parameter(torch.randn(9, HEADS))
        self.register_buffer("index", torch.randint(0, 9, (16,)))
        self.merge_norm, self.merge = nn.LayerNorm(4 * DIM), nn.Linear(4 * DIM, 2 * DIM, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [batch, 4, 4, DIM]
        batch = x.shape[0]
        rolled = torch.roll(self.norm(x), (-1, -1), (1, 2))
        windows = rolled.reshape(batch, 2, 2, 2, 2, DIM).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, DIM)
        query, key, value = self.qkv(windows).reshape(-1, 4, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index].reshape(4, 4, HEADS).permute(2, 0, 1)
        mixed = ((query @ key.transpose(-2, -1)) * 0.5 + bias).softmax(-1) @ value
        mixed = self.proj(mixed.transpose(1, 2).reshape(-1, 4, DIM))
        back = mixed.reshape(batch, 2, 2, 2, 2, DIM).permute(0, 1, 3, 2, 4, 5).reshape(batch, 4, 4, DIM)
        x = x + torch.roll(back, (1, 1), (1, 2))
        parts = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return self.merge(self.merge_norm(torch.cat(parts, -1)))


class Convolutions(nn.Module):
    """A ConvNeXt block (depthwise convolution, norm, two layers, layer scale), then norms before convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(DIM, DIM, 3, padding=1, groups=DIM)
        self.norm, self.mlp, self.gamma = nn.LayerNorm(DIM), mlp(), nn.Parameter(torch.rand(DIM))
        self.group_norm, self.down = nn.GroupNorm(1, DIM), nn.Conv2d(DIM, 2 * DIM, 2, 2, groups=2)
        self.last_norm, self.padded = nn.GroupNorm(2, 2 * DIM), nn.Conv2d(2 * DIM, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # [batch, DIM, 4, 4]
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        x = x + (self.mlp(y) * self.gamma).permute(0, 3, 1, 2)
        return self.padded(self.last_norm(self.down(self.group_norm(x))))


IMAGE = (2, 2, SIDE, SIDE)
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "class token": (ViT, IMAGE),
    "mean": (lambda: ViT("mean"), IMAGE),
    "sequence": (lambda: ViT("sequence"), IMAGE),
    "distilled": (lambda: ViT("distilled"), IMAGE),
    "chunks": (lambda: ViT("token", lambda: Block("chunks")), IMAGE),
    "heads first": (lambda: ViT("token", lambda: Block("heads first")), IMAGE),
    "layer scale": (lambda: ViT("token", lambda: Block(layer_scale=True)), IMAGE),
    "normed residual": (lambda: ViT("sequence", lambda: Block(normed_residual=True)), IMAGE),
    "torch": (Torch, (2, 5, DIM)),
    "windows": (Windows, (2, 4, 4, DIM)),
    "convolutions": (Convolutions, (2, DIM, 4, 4)),
}


def model(name: str) -> tuple[nn.Module, Tensor]:
    """A model with random weights, norms included, and an input."""
    make, shape = MODELS[name]
    torch.manual_seed(0)
    module = make().eval()
    for layer in module.modules():
        if isinstance(layer, (nn.LayerNorm, nn.GroupNorm)):
            nn.init.normal_(layer.weight, 1.0, 0.5)
            nn.init.normal_(layer.bias, 0.0, 0.5)
    return module, torch.randn(shape)
