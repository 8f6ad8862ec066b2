"""Right with nothing but the model: accuracy and rounds without one image, beside those with 256 of the model's own.

    python -m benchmarks.data_free                    what docs/data-free.json has of fewer images; written after each model
    python -m benchmarks.data_free --half tune        only those that constants may be chosen on
    python -m benchmarks.data_free --again            measures anew what docs/data-free.json has already

Each model is exported to ONNX and compiled by what `mpcc optimize model.onnx` calls, with nothing else; again under a
budget that the plan of level bounded meets with a twentieth to spare; and with images. Accuracy is that of the fixed-point
emulation on test images that chose nothing. CPU seconds are of one process, each model's three runs after one another.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mpcc
from benchmarks.zoo.models import ZOO
from examples.digits_vit.model import digits_vit
from examples.fashion_vit.model import fashion_vit
from mpcc import files
from mpcc.training.datasets import built_in

DOCS = Path(__file__).parents[1] / "docs"
JSON = DOCS / "data-free.json"
EXAMPLES = {"digits_vit": ("digits", digits_vit), "fashion_vit": ("fashion-mnist", fashion_vit)}
GIVEN, ROOM = 256, 1.05


@dataclass(frozen=True)
class Row:
    """One model: accuracies in percent, rounds and CPU seconds without images, under a budget, and with images."""

    model: str
    half: str
    images: int
    float_accuracy: float
    without: float
    budget: float
    given: float
    rounds_without: int
    rounds_given: int
    seconds_without: float
    seconds_given: float
    outside: float
    gain: float

    @property
    def error(self) -> float:
        """Standard error of an accuracy, in points."""
        share = self.float_accuracy / 100
        return 100 * math.sqrt(share * (1 - share) / self.images)


def models(half: str | None) -> Iterator[tuple[str, str, torch.nn.Module, Tensor, Tensor, Tensor]]:
    """(name, half, model, training images, test images, test labels)."""
    if half != "test":
        for name, (images, build) in EXAMPLES.items():
            found = built_in(images)
            assert found.test is not None
            yield name, "tune", build()[0].eval(), found.images, *found.test
    for entry in ZOO.values():
        if half in (None, entry.half) and entry.file.exists():
            data = entry.data()
            yield entry.name, entry.half, entry.model(), data.training.images, data.test.images, data.test.labels


def measured(name: str, half: str, model: torch.nn.Module, training: Tensor, images: Tensor, labels: Tensor, most: int) -> Row:
    images, labels = images[:most], labels[:most]
    with torch.no_grad():
        expected = accuracy(torch.cat([model(part) for part in images.split(500)]), labels)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(folder) / "model.onnx"
        torch.onnx.export(model, (training[:1],), file, dynamo=False, input_names=["image"])
        without, seconds_without = timed(file)
        given, seconds_given = timed(file, calibration=training[:GIVEN])
        budget, _ = timed(file, budget=f"{ROOM * float(without.estimate.seconds)}s")
        found = [accuracy(one.executable().emulate(images, check=False), labels) for one in (without, budget, given)]
    return Row(
        name, half, len(images), expected, *found, int(without.estimate.rounds), int(given.estimate.rounds),
        seconds_without, seconds_given, without.basis.outside, without.basis.gain,
    )  # fmt: skip


def timed(file: Path, **options: Any) -> tuple[mpcc.Optimized, float]:
    start = time.process_time()
    made = mpcc.optimize(file, machine="reference", **options)
    return made, time.process_time() - start


def accuracy(outputs: Any, labels: Tensor) -> float:
    return 100 * float((outputs.argmax(-1) == labels).double().mean())


def page(rows: list[Row]) -> str:
    """docs/data-free.md."""
    head = Path(__file__).with_name("data_free.md").read_text(encoding="utf-8")
    lines = [
        "| model | half | test images | float | no image | no image, `--budget` | own images | rounds | CPU s | judge outside |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        lines.append(
            f"| {row.model} | {row.half} | {row.images} | {row.float_accuracy:.2f} ± {row.error:.2f} | {row.without:.2f} "
            f"| {row.budget:.2f} | {row.given:.2f} | {row.rounds_without} / {row.rounds_given} = "
            f"{row.rounds_without / row.rounds_given:.2f} | {row.seconds_without / row.seconds_given:.2f} times "
            f"| {row.outside:.2%} |"
        )
    return head.replace("{table}", "\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--half", choices=("tune", "test"), help="only one half")
    parser.add_argument("--most", type=int, default=10_000, help="test images of a model (default: all)")
    parser.add_argument("--again", action="store_true", help="measure models anew that have been measured")
    options = parser.parse_args()
    found = {row["model"]: Row(**row) for row in json.loads(JSON.read_text("utf-8"))} if JSON.exists() else {}
    for name, half, *rest in models(options.half):
        if options.again or name not in found or found[name].images < min(options.most, len(rest[-1])):
            found[name] = measured(name, half, *rest, options.most)
            print(found[name], flush=True)
            rows = list(found.values())
            files.write(JSON, json.dumps([asdict(row) for row in rows], indent=1) + "\n")
            files.write(DOCS / "data-free.md", page(rows))


if __name__ == "__main__":
    main()
