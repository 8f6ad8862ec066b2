"""What spline gates do to answers: accuracy on all test images with and without them, and private runs against the emulation.

    python -m benchmarks.private_runs              the digits and the Fashion ViT, 200 private runs each: docs/private-runs.json
    python -m benchmarks.private_runs --quick      the digits ViT, 3 runs and 20 images, nothing written

Both plans keep the function; one has spline gates where they are faster on a wide-area network, the other has none. Fashion's
images come from `examples/fashion_vit/data.py`; without them that model is left out, which is said.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import mpcc
from benchmarks.fashion import calibration
from examples.fashion_vit import data
from mpcc import files, pipeline
from mpcc.approximate import Plan
from mpcc.cost.machine import REFERENCE
from mpcc.search.target import Target

ROOT = Path(__file__).parents[1]
EXAMPLES, PAGE = ROOT / "examples", ROOT / "docs" / "private-runs.json"
PRIVATE = 200
MOST_LOST = 0.05
"""Percentage points of accuracy that gates may cost."""
Given = tuple[Tensor, Tensor, Tensor]
"""Calibration images, test images, their labels."""


def digits() -> Given:
    folder = EXAMPLES / "digits_vit"
    held = np.load(folder / "heldout.npz")
    own = torch.from_numpy(np.load(folder / "calibration.npz")["images"])
    return own, torch.from_numpy(held["images"]).float(), torch.from_numpy(held["labels"])


def fashion() -> Given:
    images, labels = data.test()
    return calibration(data.training()[0]), images, labels


MODELS: dict[str, Callable[[], Given]] = {"digits": digits, "fashion": fashion}


def answers(made: mpcc.Executable, images: Tensor) -> Tensor:
    """The emulation's top classes."""
    found = made.emulate(images, check=False)
    assert isinstance(found, Tensor)
    return found.argmax(-1)


def private(made: mpcc.Executable, images: Tensor) -> Iterator[int]:
    """The top classes of private runs, one image each, over one session."""
    with made.session() as session:
        for image in images:
            yield int(session.run(image[None]).output.argmax(-1))


def row(name: str, given: Given, runs: int) -> dict[str, Any]:
    own, images, labels = given
    path = EXAMPLES / f"{name}_vit" / "model.onnx"
    prepared = pipeline.prepare(path, calibration=own)
    target = Target(network="wan", machine=REFERENCE)
    plan: Plan = pipeline.first_plan(prepared, "bounded")
    plain = mpcc.Executable(pipeline.schedule(prepared, plan), plan, prepared.graph)
    gated = mpcc.compile(path, calibration=own, target=target)
    assert isinstance(gated, mpcc.Executable)
    with torch.no_grad():
        exact = torch.cat([prepared.source(image[None]) for image in images]).argmax(-1)
    found = {"float": exact, "without gates": answers(plain, images), "with gates": answers(gated, images)}
    accuracy = {kind: 100 * float((top == labels).double().mean()) for kind, top in found.items()}
    same = sum(one == int(other) for one, other in zip(private(gated, images[:runs]), found["with gates"], strict=False))
    return {
        "model": name, "images": len(images), "accuracy": accuracy, "private": min(runs, len(images)), "same_top1": same,
        "rounds": {"without gates": plain.program.cost.rounds, "with gates": gated.program.cost.rounds},
        "bytes": {"without gates": plain.program.cost.bytes, "with gates": gated.program.cost.bytes},
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the digits ViT, 3 runs and 20 images, nothing written")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    rows = []
    for name, make in MODELS.items() if not quick else [("digits", digits)]:
        try:
            given = make()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        own, images, labels = given
        rows.append(row(name, (own, images[:20], labels[:20]) if quick else given, 3 if quick else PRIVATE))
        print(json.dumps(rows[-1], indent=1), flush=True)
    if not quick:
        files.write(PAGE, json.dumps({"command": "python -m benchmarks.private_runs", "models": rows}, indent=1) + "\n")
    lost = [one["accuracy"]["without gates"] - one["accuracy"]["with gates"] > MOST_LOST + 1e-9 for one in rows]
    return int(any(lost) or any(one["same_top1"] < one["private"] for one in rows))


if __name__ == "__main__":
    sys.exit(main())
