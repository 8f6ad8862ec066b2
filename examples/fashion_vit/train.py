"""Trains the Fashion-MNIST ViT and writes weights.safetensors and model.onnx beside this file.

    python examples/fashion_vit/train.py [EPOCHS]        about 40 minutes on one core

The 10,000 test images are looked at once, after the last step.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]

import data  # noqa: E402
from model import FashionViT  # noqa: E402
from training import Recipe, accuracy, fit, write  # noqa: E402

SEED = 0
RECIPE = Recipe(
    epochs=12, batch=96, learning_rate=2e-3, rotate=0.03, scale=0.04, shift=0.05, mirror=True, label_smoothing=0.05
)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else RECIPE.epochs
    images, labels = data.training()
    model = fit(FashionViT(), images, labels, replace(RECIPE, epochs=epochs))
    test_images, test_labels = data.test()
    print(f"test: {accuracy(model, test_images, test_labels)}")
    write(model, test_images[:1], FOLDER)


if __name__ == "__main__":
    main()
