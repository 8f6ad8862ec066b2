"""The stock Softmax ViT beside one tuned by mpcc, both really run over an emulated wan; writes results/SETTING-measured.json.

    python -m benchmarks.mpcvit.measure [--setting fashion-full] [--row mpcc-1.8s] [--runs 3]      root: network namespaces

CrypTen's own functions take the trained Softmax ViT of seed 0, mpcc's engine the bundle that run.py left for the row.
Both are joined by the same link of real round trips; set-up (keys, weights' masks, triples) comes before and is not in it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

import mpcc
from benchmarks.mpcvit.model import example
from benchmarks.mpcvit.run import NETWORK, teacher, write
from benchmarks.mpcvit.settings import SETTINGS
from benchmarks.netns import Namespaces, unavailable
from benchmarks.parties import launch
from mpcc.cost import Network
from mpcc.training import Group, load_data

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=SETTINGS, default="fashion-full")
    parser.add_argument("--row", default="mpcc-1.8s")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    if (why := unavailable()) is not None:
        sys.exit(f"no network namespaces here: {why}")
    torch.set_num_threads(1)
    setting, link = SETTINGS[given.setting], Network.parse(NETWORK)
    data = load_data(setting.data, example(setting.size)[0].shape, 0, setting.images)
    graph = teacher(setting, data, 0, Group())
    executable = mpcc.load(HERE / "work" / f"{setting.name}-{given.row}-0.mpcc")
    images = [data.test.images[index : index + 1] for index in range(given.runs)]
    with Namespaces(2, link) as spaces:
        stock = launch.stock(graph, images[0], spaces)
    with Namespaces(3, link) as spaces:
        runs = launch.mpcc(executable.program, images, spaces)
    emulated = [executable.emulate(image) for image in images]
    document = {
        "network": NETWORK, "row": given.row,
        "stock": {"seconds": max(stock.seconds), "rounds": stock.rounds, "bytes": stock.bytes},
        "mpcc": {"seconds": sorted(max(run.seconds) for run in runs), "rounds": runs[0].rounds, "bytes": runs[0].bytes},
        "off_emulation": max(float((run.output - e).abs().max()) for run, e in zip(runs, emulated, strict=True)),
    }  # fmt: skip
    write(HERE / "results" / f"{setting.name}-measured.json", document)
    print(document)


if __name__ == "__main__":
    main()
