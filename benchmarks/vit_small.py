"""ViT-S/16 and ViT-B/16 at 224x224 (197 tokens, random weights) run through once, privately: error, memory, seconds.

    python -m benchmarks.vit_small                  ViT-S/16, and docs/vit_small.json
    python -m benchmarks.vit_small --model base     ViT-B/16, and docs/vit_base.json; needs 16 GB
    python -m benchmarks.vit_small --quick          with 2 of the 12 layers, nothing written

`python -m benchmarks.engine --page` makes tables of both. Three processes on this machine. The program is that for a wide-area
network and the reference machine. Peak memory is each process's own high-water mark, weights and material included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import torch

import mpcc
from mpcc import files
from mpcc.cost.machine import REFERENCE
from mpcc.runtime.native.library import description
from tests.models.vit_lite import VisionTransformer, randomize, smooth_image

DOCS = Path(__file__).parents[1] / "docs"
CALIBRATION, IMAGE = range(1000, 1064), 1
"""Seeds of the calibration images and of the image that is run."""
WIDTHS = {"small": (384, 6), "base": (768, 12)}
"""Width and heads; the MLP is four times as wide."""
NAMES = {"small": "ViT-S/16", "base": "ViT-B/16"}


def transformer(name: str, depth: int = 12) -> VisionTransformer:
    """12 layers, 1000 classes."""
    width, heads = WIDTHS[name]
    model = VisionTransformer(image=224, patch=16, width=width, depth=depth, heads=heads, hidden=4 * width, classes=1000)
    return randomize(model).eval()


def peak_bytes(process: int | str) -> int:
    """High-water mark of a process's resident memory."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure(name: str, depth: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    model, image = transformer(name, depth), smooth_image(224, seed=IMAGE)
    calibration = torch.cat([smooth_image(224, seed=seed) for seed in CALIBRATION])
    start = time.perf_counter()
    executable = mpcc.compile(model, (image,), calibration=calibration, network="wan", machine=REFERENCE)
    assert isinstance(executable, mpcc.Executable)
    compiled = time.perf_counter() - start
    compiler = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with torch.no_grad():
        expected = model(image)
    program = executable.program
    print(f"compiled in {compiled:.0f} s: {program.cost}, failure {program.failure_probability:.1e}", flush=True)
    start = time.perf_counter()
    emulated = float((executable.emulate(image) - expected).abs().max())
    print(f"emulated in {time.perf_counter() - start:.0f} s, largest logit error {emulated:.4f}", flush=True)
    with executable.session() as session:
        run = session.run(image)
        peaks = {role: peak_bytes(process.pid) for role, process in session.opened.processes.items()}
    return {
        "command": f"python -m benchmarks.vit_small --model {name}",
        "model": NAMES[name],
        "width": WIDTHS[name][0],
        "gates": description(),
        "layers": depth,
        "tokens": 197,
        "calibration_images": len(CALIBRATION),
        "rounds": run.rounds,
        "bytes": run.bytes,
        "setup_bytes": run.setup.sent_bytes,
        "dealer_bytes": program.cost.dealer_bytes,
        "failure_probability": program.failure_probability,
        "largest_logit_error": float((run.output - expected).abs().max()),
        "largest_logit_error_emulated": emulated,
        "largest_logit": float(expected.abs().max()),
        "same_top1": bool((run.output.argmax(-1) == expected.argmax(-1)).all()),
        "online_seconds": run.seconds,
        "setup_seconds": run.setup.seconds,
        "compile_seconds": compiled,
        "peak_bytes": peaks | {"compiler": compiler},
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=tuple(WIDTHS), default="small")
    parser.add_argument("--quick", action="store_true", help="2 layers, nothing written")
    arguments = parser.parse_args()
    text = json.dumps(measure(arguments.model, 2 if arguments.quick else 12), indent=2)
    print(text)
    if not arguments.quick:
        files.write(DOCS / f"vit_{arguments.model}.json", text + "\n")


if __name__ == "__main__":
    main()
