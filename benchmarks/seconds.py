"""Predicted seconds beside measured ones, on three networks: the digits model on mpcc's engine, ViT-Lite on stock CrypTen.

    python -m benchmarks.seconds [--cycles 5] [--engine mpcc|crypten-stock] [--json]
    python -m benchmarks.seconds --first [--cycles 3] [--json]

mpcc: three processes on this machine, messages delivered as late as the network would; calibrated and run by turns
(`parties/paired.py`), because the speed of a machine that others use changes within minutes. Stock CrypTen: two
processes in network namespaces (`netns.py`, needs root) that are joined by a link of real round trips; its rounds and
bytes are predicted, its local work is that of a run in the same namespaces without delay, by turns again (the shipped
figures are of another machine). Some fifteen minutes. Exit code 1 when a prediction is more than a tenth off.

--first: what a machine predicts that never ran mpcc. A cycle is one measurement as the first prediction makes it, with an
empty cache and while a model is captured, and the middle of ten runs in network namespaces; the two examples, and two models
of benchmarks/zoo where that is there. Exit code 1 when the middle of the cycles is off by more than 15 % on lan, 5 % on wan.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.table import Table

import mpcc
from benchmarks.netns import Namespaces, unavailable
from benchmarks.parties import launch
from benchmarks.parties.paired import CYCLES, paired
from mpcc import registry
from mpcc.cli.screen import console, progress
from mpcc.cost import Compute, Network, estimate_graph
from mpcc.errors import Measured
from mpcc.program import Program
from mpcc.runtime.this_machine import speed_of
from mpcc.search.program_cost import program_estimate
from mpcc.show.units import duration
from tests.models.vit_lite import vit_lite_7_4_32

FOLDER = Path(__file__).parents[1] / "examples" / "digits_vit"
NETWORKS = ("lan", "10ms,50MB/s", "wan")
MOST_OFF = 0.1
FIRST_MOST_OFF = {"lan": 0.15, "wan": 0.05}
STOCK_CYCLES, FIRST_CYCLES, FIRST_RUNS = 2, 3, 10
NOWHERE = Network("nowhere", 0.0, 1e30, "no network: what is left is local work")


def measure(cycles: int, networks: tuple[str, ...] = NETWORKS) -> list[dict[str, Any]]:
    """A row a network: predicted and measured, and the part of the prediction that is the network's."""
    rows: list[dict[str, Any]] = []
    with progress() as tell:
        tell("compile", 0, 1)
        program = mpcc.compile(FOLDER / "model.onnx", calibration=FOLDER / "calibration.npz").program
        tell("compile", 1, 1)
        image = torch.zeros(program.inputs()[0].meta["val"].shape)
        cost = program.cost
        for name in networks:
            tell(name, 0, 1)
            link = Network.parse(name)
            wires = cost.rounds * link.rtt_seconds / 2 + cost.busier_bytes / link.bandwidth
            found = paired(program, [image], link, cycles)
            rows.append({"engine": "mpcc", "network": name, "of it on the wire": wires, **found})
            tell(name, 1, 1)
    return rows


def measure_first(cycles: int) -> list[dict[str, Any]]:
    """A row a model and network: the first prediction of a machine, and runs in namespaces."""
    protocol = registry.protocol("mpcc")
    rows: list[dict[str, Any]] = []
    with progress() as tell:
        for model, (name, program) in enumerate(programs()):
            image = torch.zeros(program.inputs()[0].meta["val"].shape)
            for text in FIRST_MOST_OFF:
                link, predicted, took = Network.parse(text), [], []
                for cycle in range(cycles):
                    tell(f"{name}, {text}", cycle, cycles)
                    predicted.append(float(program_estimate(program, protocol, link, first_speed()).seconds))
                    with Namespaces(3, link) as spaces:
                        took.append(median(max(run.seconds) for run in launch.mpcc(program, [image] * FIRST_RUNS, spaces)))
                off = [p / t - 1 for p, t in zip(predicted, took, strict=True)]
                wires = program.cost.rounds * link.rtt_seconds / 2 + program.cost.busier_bytes / link.bandwidth
                rows.append({
                    "engine": f"mpcc, {name}", "network": text, "predicted": median(predicted), "of it on the wire": wires,
                    "measured": median(took), "off": median(off), "off_least": min(off), "off_most": max(off),
                })  # fmt: skip
            tell("models", model + 1, model + 1)
    return rows


def programs() -> Iterator[tuple[str, Program]]:
    """The two examples, and the first two models of the zoo that constants are chosen on."""
    for folder in (FOLDER, FOLDER.with_name("fashion_vit")):
        images = folder / "calibration.npz"
        yield folder.name, mpcc.compile(folder / "model.onnx", calibration=images if images.exists() else None).program
    if importlib.util.find_spec("benchmarks.zoo") is not None:
        zoo = importlib.import_module("benchmarks.zoo.models")
        for entry in [entry for entry in zoo.named("tune") if (zoo.WEIGHTS / f"{entry.name}.safetensors").exists()][:2]:
            yield entry.name, mpcc.compile(entry.model(), (torch.zeros(entry.shape),)).program


def first_speed() -> Compute:
    """Of a machine whose cache is empty, while this process has the work of a capture."""
    with empty_cache(), warnings.catch_warnings():
        warnings.simplefilter("ignore", Measured)
        with speed_of(None) as speed:
            mpcc.capture(FOLDER / "model.onnx")
            found = speed()
    if found is None:
        raise RuntimeError("this machine could not be measured")
    return found.compute


@contextmanager
def empty_cache() -> Iterator[None]:
    """A cache that is gone afterwards."""
    before = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        try:
            yield
        finally:
            del os.environ["XDG_CACHE_HOME"]
            if before is not None:
                os.environ["XDG_CACHE_HOME"] = before


def measure_stock(cycles: int, networks: tuple[str, ...] = NETWORKS) -> list[dict[str, Any]]:
    """The same for stock CrypTen on ViT-Lite 7/4/32. Without namespaces nothing is measured."""
    model, (image,) = vit_lite_7_4_32()
    graph, protocol = mpcc.capture(model, (image,)), registry.protocol("crypten-stock")
    rows: list[dict[str, Any]] = []
    with progress() as tell:
        shipped = float(estimate_graph(graph, protocol, NOWHERE).seconds)
        for name in networks:
            link = Network.parse(name)
            wires = float(estimate_graph(graph, protocol, link).seconds) - shipped
            local, took = [], []
            for cycle in range(cycles):
                tell(f"stock, {name}", cycle, cycles)
                for found, there in ((local, NOWHERE), (took, link)):
                    with Namespaces(2, there) as spaces:
                        found.append(max(launch.stock(graph, image, spaces).seconds))
            tell(f"stock, {name}", cycles, cycles)
            off = [(own + wires) / all_of_it - 1 for own, all_of_it in zip(local, took, strict=True)]
            rows.append(
                {
                    "engine": "crypten-stock",
                    "network": name,
                    "predicted": median(local) + wires,
                    "with shipped figures": shipped + wires,
                    "of it on the wire": wires,
                    "measured": median(took),
                    "off": median(off),
                    "off_least": min(off),
                    "off_most": max(off),
                }
            )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="Seconds of one private inference", title_justify="left")
    table.add_column("engine")
    table.add_column("network")
    for name in ("predicted", "of it on the wire", "measured", "predicted / measured"):
        table.add_column(name, justify="right")
    for row in rows:
        ratio = f"{row['off']:+.0%} ({row['off_least']:+.0%} to {row['off_most']:+.0%})"
        times = (duration(row[name]) for name in ("predicted", "of it on the wire", "measured"))
        table.add_row(row["engine"], row["network"], *times, ratio)
    console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, help=f"of a measurement and runs, on each network: {CYCLES}, or {FIRST_CYCLES}")
    parser.add_argument("--first", action="store_true", help="what a machine predicts that never ran mpcc (needs root)")
    parser.add_argument("--engine", choices=("mpcc", "crypten-stock"), help="only that one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.first and (reason := unavailable()):
        print(f"nothing is measured: {reason}", file=sys.stderr)
        return 1
    if options.first:
        rows = measure_first(options.cycles or FIRST_CYCLES)
    else:
        rows = measure(options.cycles or CYCLES) if options.engine != "crypten-stock" else []
    if options.engine != "mpcc" and not options.first:
        if reason := unavailable():
            print(f"stock CrypTen is not measured: {reason}", file=sys.stderr)
        else:
            rows += measure_stock(STOCK_CYCLES)
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        show(rows)
    most = FIRST_MOST_OFF if options.first else {}
    return 1 if any(abs(row["off"]) > most.get(row["network"], MOST_OFF) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
