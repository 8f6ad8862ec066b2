"""What a public backbone saves: rounds and bytes where the client computes the first blocks by itself.

    python -m benchmarks.public_prefix               digits and Fashion; writes docs/public-parameters.md
    python -m benchmarks.public_prefix --vit-b       also ViT-B/16 with random weights (minutes, 8 GB)

Counts are exact: those of the program, which a private run of the digits model is held to. Agreement is that of the fixed-point
emulation with the float model in the top class of test images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import mpcc
from examples.digits_vit.model import digits_vit
from examples.fashion_vit.model import fashion_vit
from mpcc import files
from mpcc.training.datasets import built_in
from tests.models.vit_lite import VisionTransformer, randomize

DOCS = Path(__file__).parents[1] / "docs"
JSON, PAGE = DOCS / "public-parameters.json", DOCS / "public-parameters.md"
STEM = ("patch*", "pos*", "cls*")
IMAGES = 256


@dataclass(frozen=True)
class Row:
    """One model with one part of it public. `agreement`: share of test images with the float model's top class, or None."""

    model: str
    secret: str
    public: tuple[str, ...]
    rounds: int
    bytes: int
    agreement: float | None
    run: tuple[int, int] | None
    """Rounds and bytes of a private run."""


def parts(blocks: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What is secret, and the patterns that make the rest public."""
    yield "everything", ()
    yield "last two blocks and head", (*STEM, f"blocks.0-{blocks - 3}.*")
    yield "last block and head", (*STEM, f"blocks.0-{blocks - 2}.*")
    yield "head", (*STEM, "blocks.*", "norm.*")


def rows(name: str, model: nn.Module, calibration: Tensor | None, images: Tensor | None, blocks: int, run: bool) -> Iterator[Row]:
    for secret, public in parts(blocks):
        example = images[:1] if images is not None else torch.zeros(1, 3, 224, 224)
        made = mpcc.optimize(model, (example,), calibration=calibration, public=public, machine="reference")
        executable, agreement, counted = made.executable(), None, None
        if images is not None:
            found = executable.emulate(images, check=False)
            assert isinstance(found, Tensor)
            with torch.no_grad():
                agreement = float((found.argmax(-1) == model(images).argmax(-1)).double().mean())
        if run:
            done = executable.run(example)
            counted = done.rounds, done.bytes
        yield Row(name, secret, made.public, int(made.estimate.rounds), int(made.estimate.bytes), agreement, counted)


def models(large: bool) -> Iterator[Row]:
    for name, build, data in (("digits_vit", digits_vit, "digits"), ("fashion_vit", fashion_vit, "fashion-mnist")):
        found, model = built_in(data), build()[0].eval()
        assert found.test is not None
        yield from rows(name, model, found.images[:IMAGES], found.test[0][:IMAGES], len(model.blocks), name == "digits_vit")
    if large:
        model = VisionTransformer(image=224, patch=16, width=768, depth=12, heads=12, hidden=3072, classes=1000)
        model = randomize(model).eval()
        yield from rows("ViT-B/16, random weights", model, None, None, len(model.blocks), False)


def page(found: list[Row]) -> str:
    head = Path(__file__).with_name("public_prefix.md").read_text(encoding="utf-8")
    lines = ["| model | secret | rounds | MB | of all secret | top class as float |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    whole = {row.model: row for row in found if not row.public}
    for row in found:
        share = f"{row.rounds / whole[row.model].rounds:.0%} / {row.bytes / whole[row.model].bytes:.1%}"
        agreement = "" if row.agreement is None else f"{row.agreement:.1%}"
        lines.append(f"| {row.model} | {row.secret} | {row.rounds} | {row.bytes / 1e6:.2f} | {share} | {agreement} |")
    return head.replace("{table}", "\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--vit-b", action="store_true", help="also ViT-B/16 with random weights")
    found = []
    for row in models(parser.parse_args().vit_b):
        print(row, flush=True)
        if row.run is not None and row.run != (row.rounds, row.bytes):
            raise SystemExit(f"{row.model}, {row.secret}: predicted {row.rounds, row.bytes}, measured {row.run}")
        found.append(row)
    files.write(JSON, json.dumps([asdict(row) for row in found], indent=1) + "\n")
    files.write(PAGE, page(found))


if __name__ == "__main__":
    main()
