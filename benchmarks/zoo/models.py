"""Small trained Vision Transformers of different build: what claims about models that nobody has looked at are tried on.

    ZOO["rms_swiglu"].model()      the trained module, in evaluation mode
    ZOO["rms_swiglu"].data(count)  held-out images and labels that trained and chose nothing
    named("tune"), named("test")   the two halves

Constants of mpcc are chosen on the models named `tune`. Those named `test` are looked at once, when a change is finished.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from mpcc.training import Data, load_data

WEIGHTS = Path(__file__).parent / "weights"
SEED = 0


class RMSNorm(nn.Module):
    """x / sqrt(mean of x^2 + eps) times a weight, spelt out: exporters to ONNX do not all know torch's own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), torch.finfo(torch.float32).eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class SwiGLU(nn.Module):
    """w3(silu(w1 x) * w2 x)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(width, hidden), nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Mlp(nn.Module):
    """fc2(gelu(fc1 x))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Attention(nn.Module):
    """Multi-head self-attention over all tokens; with `window`, inside windows of a grid that odd blocks shift."""

    def __init__(self, width: int, heads: int, window: int = 0, grid: int = 0, shift: bool = False) -> None:
        super().__init__()
        self.heads, self.window, self.grid = heads, window, grid
        self.shift = window // 2 if shift else 0
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        if not self.window:
            return self._attend(x)
        batch, tokens, width = x.shape
        side, count = self.window, self.grid // self.window
        square = x.reshape(batch, self.grid, self.grid, width)
        if self.shift:
            square = torch.roll(square, (-self.shift, -self.shift), (1, 2))
        square = square.reshape(batch, count, side, count, side, width).transpose(2, 3).reshape(-1, side * side, width)
        square = self._attend(square).reshape(batch, count, count, side, side, width).transpose(2, 3)
        square = square.reshape(batch, self.grid, self.grid, width)
        if self.shift:
            square = torch.roll(square, (self.shift, self.shift), (1, 2))
        return square.reshape(batch, tokens, width)

    def _attend(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) * (width // self.heads) ** -0.5
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """x + f(norm x) twice, or norm(x + f x) where `post`."""

    def __init__(self, width: int, attention: Attention, mlp: nn.Module, norm: type[nn.Module], post: bool) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp, self.post = norm(width), attention, norm(width), mlp, post

    def forward(self, x: Tensor) -> Tensor:
        if self.post:
            x = self.norm1(x + self.attn(x))
            return self.norm2(x + self.mlp(x))
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ConvStem(nn.Module):
    """Two strided convolutions with batch norms and GELUs between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, width // 2, 3, 2, 1, bias=False), nn.BatchNorm2d(width // 2)
        self.conv2, self.bn2 = nn.Conv2d(width // 2, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(F.gelu(self.bn1(self.conv1(x)))))


class ZooViT(nn.Module):
    """A Vision Transformer with the parts that an entry of the zoo asks for."""

    def __init__(
        self,
        image: int,
        patch: int,
        *,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
        hidden: int = 128,
        norm: type[nn.Module] = nn.LayerNorm,
        post: bool = False,
        mlp: type[nn.Module] = Mlp,
        prefix: int = 1,
        pool: str = "first",
        window: int = 0,
        conv: bool = False,
    ) -> None:
        """`prefix` tokens stand before the patches (class token, distillation token, registers); `pool` reads the
        answer off the `first` one, off the first `two` with a head each, or off the `mean` of the patches."""
        super().__init__()
        grid = image // patch
        self.stem = ConvStem(width) if conv else nn.Conv2d(1, width, patch, patch)
        self.prefix = nn.Parameter(torch.randn(1, prefix, width) * 0.02) if prefix else None
        self.position = nn.Parameter(torch.randn(1, grid * grid, width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(width, Attention(width, heads, window, grid, index % 2 == 1), mlp(width, hidden), norm, post)
            for index in range(depth)
        )
        self.norm = nn.Identity() if post else norm(width)
        self.pool, self.head = pool, nn.Linear(width, 10)
        self.head2 = nn.Linear(width, 10) if pool == "two" else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2) + self.position
        if self.prefix is not None:
            x = torch.cat([self.prefix.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        if self.pool == "mean":
            return self.head(self.norm(x).mean(1))
        x = self.norm(x)
        if self.head2 is not None:
            return (self.head(x[:, 0]) + self.head2(x[:, 1])) / 2
        return self.head(x[:, 0])


@dataclass(frozen=True)
class Entry:
    """One model of the zoo: what it is, on which images, and which half it belongs to."""

    name: str
    half: str
    images: str
    side: int
    build: dict[str, Any] = field(default_factory=dict)
    epochs: int = 30
    most: int | None = None

    @property
    def file(self) -> Path:
        """Where its weights are, if it was trained: python -m benchmarks.zoo.train NAME."""
        return WEIGHTS / f"{self.name}.safetensors"

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, 1, self.side, self.side)

    def fresh(self) -> ZooViT:
        """The model before training."""
        torch.manual_seed(SEED)
        return ZooViT(self.side, **self.build)

    def model(self) -> ZooViT:
        """The trained model."""
        made = self.fresh()
        made.load_state_dict({name: value.float() for name, value in load_file(self.file).items()})
        return made.eval()

    def data(self) -> Data:
        """Training, validation and test images; test images report and do nothing else."""
        return load_data(self.images, self.shape, SEED, self.most)


def _entries() -> Iterator[Entry]:
    yield Entry("no_class_token", "tune", "fashion-mnist", 28, {"patch": 4, "prefix": 0, "pool": "mean"}, 8, 20_000)
    yield Entry("conv_hybrid", "tune", "fashion-mnist", 28, {"patch": 4, "conv": True, "depth": 3}, 8, 20_000)
    yield Entry("registers", "tune", "mnist-5k", 28, {"patch": 4, "prefix": 5}, 30)
    yield Entry("pre_norm", "tune", "digits", 8, {"patch": 2, "depth": 5}, 120)
    yield Entry("post_norm", "test", "mnist-5k", 28, {"patch": 4, "post": True}, 30)
    yield Entry("rms_swiglu", "test", "fashion-mnist", 28, {"patch": 4, "norm": RMSNorm, "mlp": SwiGLU}, 8, 20_000)
    yield Entry("windows", "test", "fashion-mnist", 28, {"patch": 2, "window": 7, "prefix": 0, "pool": "mean"}, 6, 8_000)
    yield Entry("distilled", "test", "digits", 8, {"patch": 2, "prefix": 2, "pool": "two"}, 120)


ZOO = {entry.name: entry for entry in _entries()}


def named(half: str) -> list[Entry]:
    """The entries of a half."""
    return [entry for entry in ZOO.values() if entry.half == half]
