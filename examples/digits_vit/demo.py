"""The digits ViT, from its ONNX file to private answers, compared with stock CrypTen. This is what `make demo` runs.

    python examples/digits_vit/demo.py [--images 20] [--network wan] [--output out/digits_vit.mpcc]

Optimises model.onnx, writes the bundle, loads it, and classifies held-out images with a server, a client and a dealer process on
this machine. The exit code is 1 if a measured count differs from the predicted one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

import mpcc
from mpcc.cli.screen import console, progress
from mpcc.show.units import count, duration, size, times

FOLDER = Path(__file__).parent
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Counted:
    """The predicted and the measured count of a phase."""

    what: str
    predicted: int
    measured: int


@dataclass(frozen=True)
class Answers:
    """Logits of all images [images, 10], the seconds of each, and the counts of the session."""

    logits: torch.Tensor
    seconds: list[float]
    counted: list[Counted]


def held_out(images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that were not used for training, and their labels."""
    stored = np.load(FOLDER / "heldout.npz", allow_pickle=False)
    return torch.from_numpy(stored["images"][:images]), torch.from_numpy(stored["labels"][:images])


def classify(bundle: Path, images: torch.Tensor, network: str, tell: Tell) -> Answers:
    """Classify all images in one session, with one set-up."""
    executable = mpcc.load(bundle)
    cost = executable.program.cost
    logits, seconds, counted = [], [], []
    with executable.session(network=network, progress=tell) as session:
        counted += [
            Counted("set-up rounds", cost.setup_rounds, session.setup.rounds),
            Counted("set-up bytes", cost.setup_bytes, session.setup.sent_bytes),
            Counted("set-up bytes from the dealer", cost.setup_dealer_bytes, session.setup.dealer_bytes),
        ]
        for step, image in enumerate(images):
            tell("private", step, len(images))
            run = session.run(image[None])
            logits.append(run.output)
            seconds.append(run.seconds)
            counted.append(Counted("online rounds", cost.rounds, run.rounds))
            counted.append(Counted("online bytes", cost.bytes, run.bytes))
        tell("private", len(images), len(images))
    return Answers(torch.cat(logits), seconds, counted)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--network", default="wan")
    parser.add_argument("--output", type=Path, default=Path("out/digits_vit.mpcc"))
    options = parser.parse_args()
    images, labels = held_out(options.images)
    with progress() as tell:
        made = mpcc.optimize(
            FOLDER / "model.onnx", calibration=FOLDER / "calibration.npz", network=options.network, progress=tell
        )
        tell("write", 0, 1)
        made.save(options.output)
        tell("write", 1, 1)
        private = classify(options.output, images, options.network, tell)
        tell("stock CrypTen", 0, 1)
        stock = mpcc.compile(FOLDER / "model.onnx", engine="stock").run(images[:1])
        tell("stock CrypTen", 1, 1)
    with torch.no_grad():
        plain = torch.cat([made.model(image[None]) for image in images])
    counted = [
        *private.counted,
        Counted("stock rounds", int(made.baseline.rounds), stock.rounds),
        Counted("stock bytes", int(made.baseline.bytes), stock.bytes),
    ]
    show_answers(plain, private.logits, labels)
    show_cost(made, private, stock, options.network)
    wrong = [one for one in counted if one.predicted != one.measured]
    for one in wrong:
        print(f"NOT AS PREDICTED: {one.what}: predicted {one.predicted}, measured {one.measured}", file=sys.stderr)
    if not wrong:
        print(f"All {len(counted)} measured counts are as predicted.")
    print(f"\nBundle: {options.output}; report: {options.output / 'report.html'}")
    return 1 if wrong else 0


def show_answers(plain: torch.Tensor, private: torch.Tensor, labels: torch.Tensor) -> None:
    """Print top-1 of both, and the largest difference of logits."""
    total = len(labels)
    right = [int((logits.argmax(1) == labels).sum()) for logits in (plain, private)]
    same = int((plain.argmax(1) == private.argmax(1)).sum())
    print(f"{total} held-out digits")
    print(f"  plain top-1    {right[0]} of {total}")
    print(f"  private top-1  {right[1]} of {total}, the same as plain on {same}")
    print(f"  largest logit difference {(plain - private).abs().max():.4f} (logits up to {plain.abs().max():.1f})\n")


def show_cost(made: mpcc.Optimized, private: Answers, stock: mpcc.Run, network: str) -> None:
    """Print stock CrypTen and mpcc side by side, predicted and measured."""
    before, after = made.baseline, made.estimate
    online = {one.what: one.measured for one in private.counted}
    middle = sorted(private.seconds)[len(private.seconds) // 2]
    table = Table(title="One inference", title_justify="left")
    for column in ("", "stock CrypTen", "mpcc", "ratio"):
        table.add_column(column, justify="left" if column == "" else "right")
    cost = made.program.cost
    for name, old, new, written in (
        ("online rounds, predicted", before.rounds, after.rounds, count),
        ("online rounds, measured", stock.rounds, online["online rounds"], count),
        ("online bytes, predicted", before.bytes, after.bytes, size),
        ("online bytes, measured", stock.bytes, online["online bytes"], size),
    ):
        table.add_row(name, written(old), written(new), times(float(old), float(new)))
    table.add_section()
    predicted = times(float(before.seconds), float(after.seconds))
    table.add_row(f"seconds on {network}, predicted", duration(before.seconds), duration(after.seconds), predicted)
    table.add_row(f"seconds on an emulated {network}, measured", "", duration(middle), "")
    table.add_row("seconds on this machine, measured", duration(stock.seconds), "", "")
    table.add_section()
    table.add_row("set-up bytes, once per model, predicted", "", size(cost.setup_bytes), "")
    table.add_row("set-up bytes, once per model, measured", "", size(online["set-up bytes"]), "")
    table.add_row("from the dealer, before the input", "not counted", size(cost.dealer_bytes), "")
    console().print(table)


if __name__ == "__main__":
    sys.exit(main())
