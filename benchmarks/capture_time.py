"""Capture of timm's ViT-B/16 against torch.export alone, in pairs, in processor seconds. Goal: at most 1.5 times.

Output: one line per pair, then the median ratio.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.coverage.onnx_models import Entry
from mpcc.frontend import capture

PAIRS = 5
GOAL = 1.5


def seconds(function: Callable[[], Any]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    model, image = Entry("timm", "vit_base_patch16_224").build(), torch.randn(1, 3, 224, 224)
    ratios = []
    for i in range(PAIRS + 1):
        alone = seconds(lambda: torch.export.export(model, (image,)))
        ours = seconds(lambda: capture(model, image))
        print(f"torch.export {alone:.2f} s, capture {ours:.2f} s, ratio {ours / alone:.2f}" + ("" if i else " (first)"))
        ratios.append(ours / alone)
    median = statistics.median(ratios[1:])
    print(f"median ratio {median:.2f} (goal: at most {GOAL})")
    return 0 if median <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
