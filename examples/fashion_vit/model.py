"""A small Vision Transformer for 28x28 Fashion-MNIST images, trained in this folder by train.py.

The network of `examples.digits_vit` with patch 4, width 96 and six blocks. The input is [batch, 1, 28, 28], pixels of 0..255
after `(pixels - MEAN) / STD`; the output is [batch, 10] logits.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from examples.digits_vit.model import DigitsViT

# Mean and standard deviation of the training pixels (train.py prints them).
MEAN, STD = 72.94, 90.02
WEIGHTS = Path(__file__).with_name("weights.safetensors")


class FashionViT(DigitsViT):
    """[batch, 1, 28, 28] normalised images to [batch, 10] logits."""

    side, channels, classes, patch, dim, depth, heads, mlp_ratio = 28, 1, 10, 4, 96, 6, 4, 2


def fashion_vit() -> tuple[FashionViT, tuple[Tensor, ...]]:
    """The trained model in evaluation mode, and an example input."""
    model = FashionViT()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval(), (torch.zeros(1, FashionViT.channels, FashionViT.side, FashionViT.side),)
