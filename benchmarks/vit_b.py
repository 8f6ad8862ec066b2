"""How long `mpcc optimize` takes on ViT-B/16: from an ONNX file, 12 layers, 12 heads, level structural, half the accurate time.

    python -m benchmarks.vit_b                        both, and docs/vit_b.json
    python -m benchmarks.vit_b --images 0             without calibration only, nothing written
    python -m benchmarks.vit_b --depth 2              fewer layers, nothing written

Random weights. Wall and processor seconds by stage; of the solver the slowest of all its calls. Goals: 60 s without
calibration, ten minutes with 64 images, five seconds for the solver. Needs 12 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mpcc import pipeline
from mpcc.cost import Budget
from mpcc.search import cache, moves
from mpcc.search.pricing import priced
from mpcc.search.target import Target
from tests.models.vit_lite import VisionTransformer, randomize, smooth_image

PAGE = Path(__file__).parents[1] / "docs" / "vit_b.json"
GOALS = {"without calibration": 60.0, "calibrated": 600.0, "solver": 5.0}


class Stages:
    """Wall and processor seconds of every stage, by the pipeline's own reports."""

    def __init__(self) -> None:
        self.took: dict[str, list[float]] = {}
        self.stage, self.since = "start", self._now()

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None:
        if stage == self.stage:
            return
        now = self._now()
        row = self.took.setdefault(self.stage, [0.0, 0.0])
        for place in (0, 1):
            row[place] += now[place] - self.since[place]
        self.stage, self.since = stage, now
        print(f"  {self.since[1]:8.1f} s processor: {stage}", file=sys.stderr, flush=True)

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


class Stopwatch:
    """A function, and the wall seconds of its slowest call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.slowest = function, 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        found = self.function(*args, **kwargs)
        self.slowest = max(self.slowest, time.perf_counter() - started)
        return found


def export(folder: Path, depth: int) -> Path:
    """The model as an ONNX file."""
    model = VisionTransformer(image=224, patch=16, width=768, depth=depth, heads=12, hidden=3072, classes=1000)
    path = folder / "vit_b.onnx"
    with torch.no_grad():
        torch.onnx.export(randomize(model).eval(), (smooth_image(224),), str(path), opset_version=18, dynamo=False)
    return path


def half(path: Path) -> Budget:
    """Half the time of the accurate plan, as drafted without calibration."""
    prepared = pipeline.prepare(path)
    task = pipeline.task_of(prepared, Target(network="wan"))
    drafts = replace(task, program=task.draft)
    return Budget(float(priced(drafts, pipeline.first_plan(prepared, "bounded")).seconds) / 2, "seconds")


def measure(path: Path, images: int, budget: Budget) -> dict[str, Any]:
    """`mpcc.optimize` once: seconds by stage, in all, and of the slowest solution."""
    calibration = torch.cat([smooth_image(224, seed=seed) for seed in range(1000, 1000 + images)]) if images else None
    tell, solver = Stages(), Stopwatch(moves.solve)
    forgotten = unittest.mock.patch.object(cache, "read", lambda key: {})  # losses that an earlier run measured
    with unittest.mock.patch.object(moves, "solve", solver), forgotten:
        made = pipeline.optimize(
            path, budget=budget, network="wan", level="structural", calibration=calibration, progress=tell
        )
    tell("end")
    assert made.chosen is not None
    stages = {stage: {"wall": took[0], "processor": took[1]} for stage, took in tell.took.items()}
    return {
        "images": images,
        "swept": made.chosen.images,
        "sites": len(made.chosen.candidates),
        "options": sum(len(entry.kept) for entry in made.chosen.candidates.values()),
        "budget": budget.amount,
        "seconds": float(made.estimate.seconds),
        "stages": stages,
        "wall": sum(row["wall"] for row in stages.values()),
        "processor": sum(row["processor"] for row in stages.values()),
        "solver": solver.slowest,
        "program_bytes": len(made.program.to_json()),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, action="append", help="of calibration; both 0 and 64 when not given")
    parser.add_argument("--depth", type=int, default=12)
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = export(Path(folder), arguments.depth)
        budget = half(path)
        for images in arguments.images or (0, 64):
            kind = "calibrated" if images else "without calibration"
            row = found[kind] = measure(path, images, budget)
            print(f"{kind}: {row['wall']:.0f} s wall, {row['processor']:.0f} s processor (goal {GOALS[kind]:.0f})")
            for stage, took in row["stages"].items():
                print(f"    {stage:24} {took['wall']:7.1f} {took['processor']:7.1f}")
            print(f"    slowest solution {row['solver']:.2f} s (goal {GOALS['solver']:.0f})", flush=True)
    if arguments.depth == 12 and len(found) == 2:
        PAGE.write_text(json.dumps({"threads": torch.get_num_threads(), **found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
