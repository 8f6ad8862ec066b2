"""Trains the digits ViT and writes weights.safetensors, model.onnx, heldout.npz and calibration.npz beside this file.

    python -m examples.digits_vit.train                 about four minutes on one core
    python -m examples.digits_vit.train --images        only the two .npz files, which depend on no training

The images are scikit-learn's `load_digits`: 1,797 of 8x8 pixels (UCI Optical Recognition of Handwritten Digits). A
fifth of them, chosen with a fixed seed and stratified by class, is held out and looked at once, after the last step.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from examples.digits_vit.model import MEAN, STD, DigitsViT
from examples.training import Recipe, accuracy, fit, write

FOLDER = Path(__file__).parent
SEED = 0
CALIBRATION_IMAGES = 256  # enough to see the tails of the norms' variances: an unusual digit is one in a hundred
RECIPE = Recipe(epochs=300, batch=64, learning_rate=2e-3, rotate=0.15, scale=0.1, shift=0.12)


def split() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training images and labels, held-out images and labels: normalised, [count, 1, 8, 8]."""
    digits = load_digits()
    train, held_out, train_labels, held_out_labels = train_test_split(
        digits.images, digits.target, test_size=0.2, random_state=SEED, stratify=digits.target
    )
    print(f"training pixels: mean {train.mean():.3f}, standard deviation {train.std():.3f}")

    def normalised(pixels: np.ndarray) -> torch.Tensor:
        return torch.tensor((pixels[:, None] - MEAN) / STD, dtype=torch.float32)

    return normalised(train), torch.tensor(train_labels), normalised(held_out), torch.tensor(held_out_labels)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    images, labels, held_out, held_out_labels = split()
    np.savez_compressed(FOLDER / "heldout.npz", images=held_out.numpy(), labels=held_out_labels.numpy())
    np.savez_compressed(
        FOLDER / "calibration.npz",
        images=images[:CALIBRATION_IMAGES].numpy(),
        labels=labels[:CALIBRATION_IMAGES].numpy(),
    )
    if "--images" in sys.argv[1:]:
        return
    model = fit(DigitsViT(), images, labels, RECIPE)
    print(f"held out: {accuracy(model, held_out, held_out_labels)}")
    write(model, held_out[:1], FOLDER)


if __name__ == "__main__":
    main()
