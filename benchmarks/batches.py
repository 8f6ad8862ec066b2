"""Images a second of a batch on a wide-area link: several inputs in the rounds of one (`mpcc.program.batch`). docs/batches.md.

    python -m benchmarks.batches              ViT-Lite 7/4/32 and the digits ViT, batches of 1, 4 and 16 by turns, and the page
    python -m benchmarks.batches --predict    counts and predicted seconds of the reference machine, nothing run or written
    python -m benchmarks.batches --quick      the digits ViT, batches of 1 and 4, one run each, nothing written

Three processes in network namespaces (needs root; else on the link that the transport emulates), one thread each. In each cycle
every batch runs, so that all of them meet the same machine; the least over the cycles counts, since other work only adds. Every
answer is held against the emulation of its image alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import mpcc
from benchmarks.netns import Namespaces, unavailable
from benchmarks.parties import launch
from benchmarks.parties.page import table
from mpcc import files, registry
from mpcc.cost import WAN
from mpcc.cost.machine import REFERENCE
from mpcc.program import Program
from mpcc.program.batch import batched
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.native.library import description
from mpcc.runtime.net.transport import LinkModel
from mpcc.runtime.session.session import Session
from mpcc.search.program_cost import program_estimate
from tests.models.vit_lite import smooth_image, vit_lite_7_4_32

ROOT = Path(__file__).parents[1]
PAGE, FOUND = ROOT / "docs" / "batches.md", ROOT / "docs" / "batches.json"
COMMAND = "python -m benchmarks.batches"
DIGITS = ROOT / "examples" / "digits_vit"
SIZES = (1, 4, 16)
WANTED = {4: 2.4, 16: 4.0}
"""Times the images a second of batch 1."""
CYCLES, RUNS = 2, 2
CALIBRATION = range(1000, 1064)
FURTHEST = 0.05
"""Of an answer from the emulation, relative to the largest logit: noise on outputs, and pieces of spline gates."""


Model = tuple[Program, Tensor]
"""The program of one image, and images [count, *shape of an input]."""


def digits() -> Model:
    made = mpcc.optimize(DIGITS / "model.onnx", calibration=DIGITS / "calibration.npz", network=WAN, machine=REFERENCE)
    images = torch.from_numpy(np.load(DIGITS / "calibration.npz")["images"][: max(SIZES)])
    return made.program, images[:, None].float()


def vit_lite() -> Model:
    model, example = vit_lite_7_4_32()
    calibration = torch.cat([smooth_image(32, seed=seed) for seed in CALIBRATION])
    made = mpcc.optimize(model, example, calibration=calibration, network=WAN, machine=REFERENCE)
    return made.program, torch.stack([smooth_image(32, seed=seed) for seed in range(1, 1 + max(SIZES))])


MODELS: dict[str, Callable[[], Model]] = {"ViT-Lite 7/4/32": vit_lite, "digits ViT": digits}


def predicted(program: Program) -> dict[str, Any]:
    """Exact counts, and the seconds of the reference machine."""
    protocol, cost = registry.protocol("mpcc"), program.cost
    seconds = float(program_estimate(program, protocol, WAN, protocol.compute).seconds)
    return {"rounds": cost.rounds, "bytes": cost.bytes, "dealer_bytes": cost.dealer_bytes, "predicted": seconds}


def run(program: Program, given: Tensor, runs: int) -> list[tuple[float, Tensor]]:
    """Online seconds at the party that took longer and the opened output, of so many runs after one set-up."""
    if unavailable():
        with Session(program, "benchmark", LinkModel(WAN.rtt_seconds, WAN.bandwidth)) as session:
            outcomes = [session.run(given) for _ in range(runs)]
            return [(one.seconds, one.outputs[0]) for one in outcomes]
    with Namespaces(3, WAN) as spaces:
        return [(max(one.seconds), one.output) for one in launch.mpcc(program, [given] * runs, spaces)]


def measured(model: Model, sizes: Sequence[int], cycles: int, runs: int) -> list[dict[str, Any]]:
    """A row a batch. RuntimeError for an answer that is not that of the emulation."""
    program, images = model
    programs = {size: batched(program, size) for size in sizes}
    expected = Emulator(program).calls(images)[0]
    took: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(cycles):
        for size, one in programs.items():
            for seconds, output in run(one, images[0] if size == 1 else images[:size], runs):
                took[size].append(seconds)
                off = float((output.reshape(expected[:size].shape) - expected[:size]).abs().max() / expected.abs().max())
                if not off < FURTHEST:
                    raise RuntimeError(f"a batch of {size}: outputs are off by {off:.2g} of the largest")
    return [{"size": size, "seconds": min(took[size]), **predicted(programs[size])} for size in sizes]


def page(found: Mapping[str, Any]) -> str:
    """docs/batches.md."""
    rows, targets = [], []
    for name, entries in found["models"].items():
        rate = {row["size"]: row["size"] / row["seconds"] for row in entries}
        for row in entries:
            counts = [f"{row['rounds']:,}", f"{row['bytes'] / 1e6:.1f}", f"{row['dealer_bytes'] / 1e6:.0f}"]
            times = [f"{row['seconds']:.2f}", f"{row['predicted']:.2f}", f"{rate[row['size']]:.2f}"]
            rows.append([name, str(row["size"]), *counts, *times, f"{rate[row['size']] / rate[1]:.1f}"])
        for size, wanted in WANTED.items():
            ratio = rate[size] / rate[1]
            verdict = "met" if ratio >= wanted else "**missed**"
            targets.append([f"{name}, batch of {size}", f"{wanted:g}", f"{ratio:.1f}", verdict])
    aims = table(["", "at least, times batch 1", "measured", ""], targets)
    return TEXT.format(rows=table(HEAD, rows), targets=aims, **{name: found[name] for name in SAID})


HEAD = (
    "", "batch", "rounds", "MB online", "MB from the dealer", "s", "s, predicted for the reference", "images a second",
    "times batch 1",
)  # fmt: skip
SAID = ("link", "how", "gates", "load", "cores")


TEXT = """# Batches on a wide-area link

Written by `python -m benchmarks.batches`. Several images in the rounds of one, on {link}: {how}; three processes, one thread
each, spline gates in {gates}, {cores} cores, load average {load}. Each figure is the least over the runs of all cycles, in which
the batches take turns. All answers are those of the emulation.

{rows}

{targets}

A batch pays each round trip once. What is left grows with the images: bytes of the busier direction, and local work.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predict", action="store_true", help="counts and predicted seconds only")
    parser.add_argument("--quick", action="store_true", help="the digits ViT, two batches, one run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.predict:
        for name, make in MODELS.items():
            program = make()[0]
            for size in SIZES:
                print(name, size, json.dumps(predicted(batched(program, size))), flush=True)
        return 0
    if arguments.quick:
        for row in measured(digits(), SIZES[:2], 1, 1):
            print(json.dumps(row), flush=True)
        return 0
    models = {name: measured(make(), SIZES, CYCLES, RUNS) for name, make in MODELS.items()}
    found = {
        "command": COMMAND, "link": f"{WAN.rtt_seconds * 1e3:g} ms, {WAN.bandwidth / 1e6:g} MB/s",
        "how": "emulated by the transport" if unavailable() else "network namespaces", "gates": description(),
        "cores": os.cpu_count(), "load": f"{os.getloadavg()[0]:.1f}", "models": models,
    }  # fmt: skip
    files.write(FOUND, json.dumps(found, indent=1) + "\n")
    files.write(PAGE, page(found))
    print(page(found))
    return int("**missed**" in page(found))


if __name__ == "__main__":
    sys.exit(main())
