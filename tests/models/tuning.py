"""A ViT of two blocks for the digits, small enough to be trained in a test, and what it is tuned with."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, fx, nn

import mpcc
from mpcc.training import Data, Hyperparameters, Request, Tuning, load_data

DIM, HEADS, TOKENS, STEPS = 16, 2, 4, 200


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.fc1, self.act, self.fc2 = nn.Linear(DIM, 2 * DIM), nn.GELU(), nn.Linear(2 * DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).reshape(len(x), TOKENS, 3, HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * (DIM // HEADS) ** -0.5).softmax(-1)
        x = x + self.proj((weights @ v).transpose(1, 2).reshape(len(x), TOKENS, DIM))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


class Vit(nn.Module):
    """[batch, 1, 8, 8] to [batch, 10], mean over four tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Conv2d(1, DIM, 4, 4), nn.Sequential(Block(), Block())
        self.norm, self.head = nn.LayerNorm(DIM), nn.Linear(DIM, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(image).flatten(2).transpose(1, 2))).mean(1))


def vit() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The model, trained for a moment; what a command line can name."""
    torch.manual_seed(0)
    model, training = Vit(), data().training
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(STEPS):
        chosen = torch.arange(64 * step, 64 * step + 64) % len(training)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(training.images[chosen]), training.labels[chosen]).backward()
        optimizer.step()
    return model.eval(), (torch.zeros(1, 1, 8, 8),)


@cache
def graph() -> fx.GraphModule:
    """Its nn-level graph. Read it only."""
    return mpcc.capture(*vit())


@cache
def data() -> Data:
    """The digits, 640 of them for training."""
    return load_data("digits", (1, 1, 8, 8), 0, 640)


def tuning(folder: Path, method: str, *, budget: str | None = None, mu: float | None = None, **changes: object) -> Tuning:
    """A training of two epochs of search and two after it."""
    request = Request.of(method, budget=budget, network="wan", mu=mu, search_epochs=2)
    hyper = Hyperparameters(epochs=2, batch=64, rate=3e-3)
    return Tuning(graph(), data(), request, hyper, folder / "checkpoint", **changes)  # type: ignore[arg-type]
