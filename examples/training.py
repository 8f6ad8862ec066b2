"""Trains and writes the example models: AdamW, augmentation, label smoothing, averaged weights; safetensors and ONNX.

The held-out images are looked at once, after the last step; nothing is chosen by them.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

OPSET = 18


@dataclass(frozen=True)
class Recipe:
    """How long, how fast, and how much the images are moved about."""

    epochs: int
    batch: int
    learning_rate: float
    rotate: float  # radians
    scale: float  # fraction
    shift: float  # fraction of half the side
    mirror: bool = False
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    average: float = 0.998  # decay of the averaged weights, a step
    warmup: float = 0.05  # fraction of all steps


@dataclass(frozen=True)
class Accuracy:
    """Right answers among `count`, with the binomial standard error."""

    right: int
    count: int

    @property
    def percent(self) -> float:
        return 100 * self.right / self.count

    @property
    def standard_error(self) -> float:
        share = self.right / self.count
        return 100 * math.sqrt(share * (1 - share) / self.count)

    def __str__(self) -> str:
        return f"{self.percent:.2f} % +- {self.standard_error:.2f} ({self.right} of {self.count})"


def augment(images: Tensor, recipe: Recipe) -> Tensor:
    """Each image [channels, side, side] rotated, scaled, shifted and perhaps mirrored on its own."""

    def spread(width: float) -> Tensor:
        return (torch.rand(len(images)) * 2 - 1) * width

    angle, across, down = spread(recipe.rotate), 1 + spread(recipe.scale), 1 + spread(recipe.scale)
    if recipe.mirror:
        across = across * torch.where(torch.rand(len(images)) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [
        torch.stack([cos * across, -sin * down, spread(recipe.shift)], 1),
        torch.stack([sin * across, cos * down, spread(recipe.shift)], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def fit(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> nn.Module:
    """The model trained on normalised images; returns the average of the weights over the last steps."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.99),
    )
    steps = recipe.epochs * (len(images) // recipe.batch)

    def rate(step: int) -> float:
        done = step / steps
        return min(1.0, done / recipe.warmup + 1e-3) * (0.5 + 0.5 * math.cos(math.pi * done))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    averaged = copy.deepcopy(model)
    started = time.process_time()
    step = 0
    for epoch in range(recipe.epochs):
        model.train()
        order = torch.randperm(len(images))
        total = 0.0
        for start in range(0, len(images) - recipe.batch + 1, recipe.batch):
            chosen = order[start : start + recipe.batch]
            logits = model(augment(images[chosen], recipe))
            loss = F.cross_entropy(logits, labels[chosen], label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            total += loss.item()
            _average(averaged, model, min(recipe.average, step / (step + 10)))
        if (epoch + 1) % max(1, recipe.epochs // 10) == 0:
            mean = total / (len(images) // recipe.batch)
            print(f"epoch {epoch + 1:4d}  loss {mean:.4f}  {time.process_time() - started:.0f} CPU s", flush=True)
    return averaged.eval()


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, new in zip(averaged.parameters(), model.parameters(), strict=True):
        mean.lerp_(new, 1 - decay)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> Accuracy:
    """Top-1 on normalised images."""
    model.eval()
    batches = zip(images.split(500), labels.split(500), strict=True)
    return Accuracy(sum(int((model(x).argmax(1) == y).sum()) for x, y in batches), len(images))


def write(model: nn.Module, example: Tensor, folder: Path) -> None:
    """`weights.safetensors` and `model.onnx` in the folder."""
    save_file(model.state_dict(), folder / "weights.safetensors")
    export_onnx(model, example, folder / "model.onnx")


def export_onnx(model: nn.Module, example: Tensor, path: Path) -> None:
    """One self-contained file in standard operators, for the example's shape, checked against the model.

    The exporter leaves stack traces with local paths in its metadata; they are removed.
    """
    program = torch.onnx.export(
        model, (example,), dynamo=True, opset_version=OPSET, input_names=["image"], output_names=["logits"]
    )
    assert program is not None
    proto = program.model_proto
    proto.doc_string = proto.graph.doc_string = ""
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    image = torch.randn_like(example)
    (logits,) = session.run(None, {"image": image.numpy()})
    np.testing.assert_allclose(logits, model(image).detach().numpy(), atol=1e-4)
