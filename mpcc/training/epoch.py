"""The images of an epoch: their order and how each is moved are drawn once, and both are on the device with the images.

What the host draws and copies at every step instead takes longer there than a small model's arithmetic on a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .data import Part, drawn, moved, moves
from .datasets import Augmentation

MOST_OF_A_DEVICE = 0.25
"""Part of a GPU's free memory that the images may take; more of them are copied step by step."""


def on_device(part: Part, device: torch.device) -> Part:
    """The images where they are trained on, or as they are if there are too many."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if part.images.numel() * part.images.element_size() > MOST_OF_A_DEVICE * free:
            return part
    return Part(part.images.to(device), part.labels.to(device))


class Epoch:
    """One pass over the training images. Draws are the host's, so that they are the same for every device."""

    def __init__(
        self, number: int, part: Part, how: Augmentation, order: torch.Generator, draws: torch.Generator, device: torch.device
    ) -> None:
        home = part.images.device
        self.number, self.part, self.device = number, part, device
        self.order = torch.randperm(len(part), generator=order).to(home)
        self.draws = drawn(len(part), how, draws).to(home) if moves(part.images, how) else None

    def batch(self, start: int, stop: int, rank: int = 0, size: int = 1) -> tuple[Tensor, Tensor]:
        """Images and labels at these places of the order, as far as they are this process's: every `size`-th."""
        chosen = self.order[start:stop][rank::size]
        images = self.part.images[chosen]
        if self.draws is not None:
            images = moved(images, self.draws[chosen])
        return images.to(self.device), self.part.labels[chosen].to(self.device)
