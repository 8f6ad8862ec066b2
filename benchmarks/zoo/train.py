"""Trains models of the zoo on one core and writes their weights: python -m benchmarks.zoo.train [NAME ...]

Weights are stored in half precision (under 1 MB a model); the accuracy printed is that of the stored weights.
"""

from __future__ import annotations

import argparse
import math
import time

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from mpcc.training.data import augmented

from .models import SEED, WEIGHTS, ZOO, Entry, ZooViT

BATCH, RATE, DECAY, WARM_UP, SMOOTHING = 64, 1.5e-3, 0.05, 0.1, 0.05
LONG = 100
"""Epochs from which images are moved about; shorter trainings see each image too seldom to gain by it."""


def train(entry: Entry) -> float:
    """Train, write the weights, and give the accuracy on the test images."""
    model, data = entry.fresh(), entry.data()
    generator = torch.Generator().manual_seed(SEED)
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    count = len(data.training)
    steps, step = entry.epochs * math.ceil(count / BATCH), 0
    for _ in range(entry.epochs):
        for index in torch.randperm(count, generator=generator).split(BATCH):
            done = step / steps
            rate = RATE * min(1, done / WARM_UP) * (1 + math.cos(math.pi * done)) / 2
            for group in optimiser.param_groups:
                group["lr"] = rate
            images = data.training.images[index]
            if entry.epochs >= LONG:
                images = augmented(images, data.augmentation, generator)
            loss = F.cross_entropy(model.train()(images), data.training.labels[index], label_smoothing=SMOOTHING)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            step += 1
    WEIGHTS.mkdir(exist_ok=True)
    state = {name: value.half().contiguous() for name, value in model.state_dict().items() if value.is_floating_point()}
    state |= {name: value for name, value in model.state_dict().items() if not value.is_floating_point()}
    save_file(state, entry.file)
    return accuracy(entry.model(), data.test.images, data.test.labels)


@torch.no_grad()
def accuracy(model: ZooViT, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of right answers."""
    found = torch.cat([model(part).argmax(1) for part in images.split(500)])
    return float((found == labels).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", choices=[*ZOO, []], metavar="NAME", help=f"of {', '.join(ZOO)} (default: all)")
    for name in parser.parse_args().names or ZOO:
        start = time.perf_counter()
        print(f"{name}: {100 * train(ZOO[name]):.2f} % on test images, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
