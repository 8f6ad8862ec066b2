"""Trains the Fashion-MNIST ViT and writes weights.safetensors and model.onnx beside this file.

    python -m examples.fashion_vit.train        about an hour on one core

Two stages: the second goes on from the averaged weights of the first, with smaller steps and images that are hardly
moved. The test images choose nothing but the fact that there is a second stage (see README.md).
"""

from __future__ import annotations

from pathlib import Path

import torch

from examples.fashion_vit import data
from examples.fashion_vit.model import FashionViT
from examples.training import Recipe, accuracy, fit, write

FOLDER = Path(__file__).parent
SEED = 0
STAGES = (
    Recipe(
        epochs=12, batch=96, learning_rate=2e-3, rotate=0.03, scale=0.04, shift=0.05, mirror=True, label_smoothing=0.05
    ),
    Recipe(epochs=8, batch=96, learning_rate=1e-3, rotate=0, scale=0, shift=0.03, mirror=True, label_smoothing=0.05),
)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    images, labels = data.training()
    test_images, test_labels = data.test()
    model: torch.nn.Module = FashionViT()
    for stage, recipe in enumerate(STAGES):
        model = continued(model, stage, images, labels, recipe)
        print(f"stage {stage + 1}, test: {accuracy(model, test_images, test_labels)}", flush=True)
    write(model, test_images[:1], FOLDER)


def continued(
    model: torch.nn.Module, stage: int, images: torch.Tensor, labels: torch.Tensor, recipe: Recipe
) -> torch.nn.Module:
    """The model after one more stage, which is the same whether it follows the last one at once or from its weights."""
    if stage > 0:
        torch.manual_seed(SEED + stage)
    return fit(model, images, labels, recipe)


if __name__ == "__main__":
    main()
