"""Capture of a 330 MB ONNX file (ViT-B/16) beside what onnxruntime takes to load it: paired, alternating, medians.

    python -m benchmarks.onnx_load                 exports a ViT-B/16 of timm by both exporters, then measures
    python -m benchmarks.onnx_load --rounds 9

Each round loads the file with onnxruntime (one thread, its default optimisations), then captures it at the nn level.
Wall time and, because other work on the machine blurs that, processor time. Goal: at most 3 times (both).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch

from benchmarks.coverage.onnx_files import quiet
from benchmarks.coverage.onnx_models import Entry
from mpcc.frontend.onnx import capture_onnx

GOAL = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, options in (("torchscript", {"dynamo": False}), ("dynamo", {"dynamo": True}), ("external", {})):
            path = Path(folder) / f"{name}.onnx"
            with quiet(), torch.no_grad():
                torch.onnx.export(
                    Entry("timm", "vit_base_patch16_224").build(),
                    (torch.rand(1, 3, 224, 224),),
                    str(path),
                    opset_version=18,
                    external_data=name == "external",
                    **options,
                )
            report(name, path, rounds)


def report(name: str, path: Path, rounds: int) -> None:
    measure(lambda: capture_onnx(path))  # the first call of a process imports and compiles
    pairs = [(measure(lambda: load(path)), measure(lambda: capture_onnx(path))) for _ in range(rounds)]
    for place, kind in enumerate(("wall", "processor")):
        ratio = statistics.median(ours[place] / theirs[place] for theirs, ours in pairs)
        theirs, ours = (statistics.median(pair[side][place] for pair in pairs) for side in (0, 1))
        verdict = "ok" if ratio <= GOAL else "MISSED"
        print(f"{name:12} {kind:10} onnxruntime {theirs:.2f} s, mpcc {ours:.2f} s: {ratio:.2f} times ({verdict})")


def load(path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def measure(function: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - processor


if __name__ == "__main__":
    main()
