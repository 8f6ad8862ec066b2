"""The Fashion-MNIST ViT at `--level bounded`: all 10,000 test images in fixed point, 200 of them privately.

    python -m benchmarks.fashion                       docs/fashion.md and docs/fashion.json
    python -m benchmarks.fashion --images 500 --private 4 --output out      less, written elsewhere

The plan is made in one thread, so that it does not depend on the machine's cores; the images are emulated in `--threads`.

Calibrated on images of the training split; the test images choose nothing. Top-1 of the float model and of the emulation
stand beside each other with the standard error of their difference (the images are the same, so it is that of the paired
difference), and the private answers beside the emulated ones.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

import mpcc
from examples.fashion_vit import data
from examples.fashion_vit.model import fashion_vit
from mpcc.cli.screen import progress

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "fashion_vit"
CALIBRATION_IMAGES = 256
SEED = 0
AT_ONCE = 250


def calibration(images: Tensor) -> Tensor:
    """Training images, drawn with a fixed seed."""
    drawn = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED))
    return images[drawn[:CALIBRATION_IMAGES]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--private", type=int, default=200)
    parser.add_argument("--bundle", type=Path, default=Path("out/fashion_vit.mpcc"), help="taken as it is if it exists")
    parser.add_argument("--output", type=Path, default=ROOT / "docs")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="that emulate the images")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, _ = fashion_vit()
    images, labels = (part[: options.images] for part in data.test())
    with progress() as tell:
        if not (options.bundle / "manifest.json").exists():
            mpcc.optimize(
                EXAMPLE / "model.onnx", calibration=calibration(data.training()[0]), level="bounded", network="wan",
                progress=tell,
            ).save(options.bundle)  # fmt: skip
        executable = mpcc.load(options.bundle)
        with torch.no_grad():
            plain = torch.cat([model(part) for part in images.split(500)])
        torch.set_num_threads(options.threads)
        wall, cpu, parts = time.perf_counter(), time.process_time(), []
        for done, part in enumerate(images.split(AT_ONCE)):  # what is outside the calibrated range is looked at below
            tell("emulate", done * AT_ONCE, len(images))
            parts.append(executable.emulate(part, check=False))
        tell("emulate", len(images), len(images))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        torch.set_num_threads(1)
        emulated = torch.cat(parts)
        private = []
        with executable.session(progress=tell) as session:
            for done, image in enumerate(images[: options.private]):
                tell("private", done, options.private)
                private.append(session.run(image[None]).output)
            tell("private", options.private, options.private)
    found = results(plain, emulated, torch.cat(private), labels) | {
        "emulation_seconds": round(wall, 1),
        "emulation_cpu_seconds": round(cpu, 1),
        "threads": options.threads,
        "calibration_images": CALIBRATION_IMAGES,
        "outside": [str(found) for found in executable.outside(images)],
        "rounds": executable.program.cost.rounds,
        "bytes": executable.program.cost.bytes,
        "approximations": sorted({one.approximation for choice in executable.plan.choices.values() for one in choice.choices}),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "fashion.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (options.output / "fashion.md").write_text(page(found), encoding="utf-8")
    print(page(found))


def results(plain: Tensor, emulated: Tensor, private: Tensor, labels: Tensor) -> dict[str, float]:
    """Top-1 of each, the loss with its standard error, and how far the three are apart."""
    right = [(logits.argmax(1) == labels).double() for logits in (plain, emulated)]
    loss, count = right[0] - right[1], len(labels)
    few = len(private)
    gap, drift = (plain - emulated).abs().amax(1), (private - emulated[:few]).abs()
    return {
        "images": count,
        "plain_right": int(right[0].sum()),
        "emulated_right": int(right[1].sum()),
        "loss_points": 100 * float(loss.mean()),
        "loss_standard_error": 100 * float(loss.std()) / math.sqrt(count),
        "same_top1": int((plain.argmax(1) == emulated.argmax(1)).sum()),
        "largest_logit": float(plain.abs().max()),
        "logit_gap_median": float(gap.median()),
        "logit_gap_999": float(gap.quantile(0.999)),
        "logit_gap_largest": float(gap.max()),
        "private": few,
        "private_agree": int((private.argmax(1) == emulated[:few].argmax(1)).sum()),
        "private_right": int((private.argmax(1) == labels[:few]).sum()),
        "private_gap": float(drift.max()),
    }


def page(found: dict[str, float]) -> str:
    """docs/fashion.md."""

    def top1(right: str) -> str:
        share = found[right] / found["images"]
        error = 100 * math.sqrt(share * (1 - share) / found["images"])
        return f"{100 * share:.2f} % ± {error:.2f} ({found[right]:,} of {found['images']:,})"

    seconds, cpu = f"{found['emulation_seconds']:.0f} s in {found['threads']} threads", found["emulation_cpu_seconds"]
    return f"""# A bounded plan on Fashion-MNIST
<!-- written by: python -m benchmarks.fashion -->
The ViT of `examples/fashion_vit` (6 blocks, 4 heads, width 96, 50 tokens), `--level bounded`: softmax, GELU and LayerNorm kept,
approximated by {", ".join(f"`{name}`" for name in found["approximations"])},
calibrated on {found["calibration_images"]} images of the training split.
One private inference: {found["rounds"]} rounds, {found["bytes"] / 1e6:.2f} MB.

| | |
| --- | --- |
| float model, top-1 | {top1("plain_right")} |
| fixed-point emulation, top-1 | {top1("emulated_right")} |
| loss | {found["loss_points"]:.2f} ± {found["loss_standard_error"]:.2f} points (paired) |
| the same top-1 as the float model | {found["same_top1"]:,} of {found["images"]:,} |
| logits apart, median and 99.9 % of the images | {found["logit_gap_median"]:.4f}, {found["logit_gap_999"]:.3f} |
| logits apart, largest | {found["logit_gap_largest"]:.3f} (logits up to {found["largest_logit"]:.1f}) |
| emulation of all images | {seconds} ({cpu:.0f} CPU seconds) |
| run privately (two parties and a dealer, one session) | {found["private"]} images |
| the emulation's top-1 | {found["private_agree"]} of {found["private"]} |
| logits apart from the emulation's, largest | {found["private_gap"]:.5f} |

± is one standard error. The emulation predicts the secure run: it differs by at most a unit at each truncation.

## Outside the calibrated range
A float run over the test images says where they leave the range on which the plan's approximations hold:
{chr(10).join("* " + line for line in found["outside"]) or "* nowhere."}
"""


if __name__ == "__main__":
    sys.exit(main())
