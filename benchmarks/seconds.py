"""Predicted seconds beside measured ones, on three networks: the digits model on mpcc's engine, ViT-Lite on stock CrypTen.

    mpcc calibrate && python benchmarks/seconds.py [--runs 10] [--engine crypten|crypten-stock] [--json]

mpcc: three processes on this machine, messages delivered as late as the network would; predicted with this machine's
calibration, or else with the shipped figures. Stock CrypTen: two processes in network namespaces (`netns.py`, needs
root) that are joined by a link of real round trips; predicted with the shipped figures, and with local work by the
processor's clock in a run on loopback. Some four minutes. Exit code 1 when a prediction is more than a tenth off the
quickest run. On a machine that others use too the quickest run says more than the middle one.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from models.vit_lite import vit_lite_7_4_32
from netns import Namespaces, unavailable
from parties import launch
from rich.table import Table

import mpcc
from mpcc import registry
from mpcc.bundle.units import duration
from mpcc.cli.screen import console, progress
from mpcc.cost import Network, estimate_graph
from mpcc.cost.machine import Machine
from mpcc.predict import program_estimate

FOLDER = Path(__file__).parents[1] / "examples" / "digits_vit"
NETWORKS = ("lan", "10ms,50MB/s", "wan")
WARM_UP = 2
MOST_OFF = 0.1
NOWHERE = Network("nowhere", 0.0, 1e30, "no network: what is left is local work")


def measure(runs: int, networks: tuple[str, ...] = NETWORKS) -> list[dict[str, Any]]:
    """A row a network: predicted, the quickest and the middle of the measured runs, and the parts of the prediction."""
    rows: list[dict[str, Any]] = []
    with progress() as tell:
        tell("compile", 0, 1)
        executable = mpcc.compile(FOLDER / "model.onnx", calibration=FOLDER / "calibration.npz")
        tell("compile", 1, 1)
        image = torch.zeros(executable.input_shapes[0])
        protocol, cost = registry.protocol("crypten"), executable.program.cost
        for name in networks:
            link = Network.parse(name)
            with executable.session(network=link) as session:
                took = []
                for run in range(WARM_UP + runs):
                    tell(name, run, WARM_UP + runs)
                    took.append(session.run(image).seconds)
                tell(name, WARM_UP + runs, WARM_UP + runs)
            took = sorted(took[WARM_UP:])
            predicted = float(program_estimate(executable.program, protocol, link).seconds)
            wires = cost.rounds * link.rtt_seconds / 2 + cost.bytes / 2 / link.bandwidth
            rows.append(
                {
                    "engine": "crypten",
                    "network": name,
                    "predicted": predicted,
                    "of it on the wire": wires,
                    "quickest": took[0],
                    "middle": took[len(took) // 2],
                }
            )
    return rows


def measure_stock(runs: int, networks: tuple[str, ...] = NETWORKS) -> list[dict[str, Any]]:
    """The same for stock CrypTen on ViT-Lite 7/4/32. Without namespaces nothing is measured."""
    model, (image,) = vit_lite_7_4_32()
    graph, protocol = mpcc.capture(model, (image,)), registry.protocol("crypten-stock")
    rows: list[dict[str, Any]] = []
    with progress() as tell:
        shipped = float(estimate_graph(graph, protocol, NOWHERE).seconds)
        tell("stock, loopback", 0, 1)
        local = min(max(launch.stock(graph, image, cpu=True).seconds) for _ in range(runs))
        tell("stock, loopback", 1, 1)
        for name in networks:
            link = Network.parse(name)
            predicted = float(estimate_graph(graph, protocol, link).seconds)
            took = []
            for run in range(runs):
                tell(f"stock, {name}", run, runs)
                with Namespaces(2, link) as spaces:
                    took.append(max(launch.stock(graph, image, spaces).seconds))
            tell(f"stock, {name}", runs, runs)
            took.sort()
            rows.append(
                {
                    "engine": "crypten-stock",
                    "network": name,
                    "predicted": predicted - shipped + local,
                    "with shipped figures": predicted,
                    "of it on the wire": predicted - shipped,
                    "quickest": took[0],
                    "middle": took[len(took) // 2],
                }
            )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    machine = Machine.read()
    source = registry.protocol("crypten").compute.source if machine is None else machine.compute.source
    table = Table(title=f"Seconds of one private inference. Local work: {source}", title_justify="left")
    table.add_column("engine")
    table.add_column("network")
    for name in ("predicted", "of it on the wire", "measured, quickest", "measured, middle", "predicted / quickest"):
        table.add_column(name, justify="right")
    for row in rows:
        ratio = f"{row['predicted'] / row['quickest'] - 1:+.0%}"
        times = (duration(row[name]) for name in ("predicted", "of it on the wire", "quickest", "middle"))
        table.add_row(row["engine"], row["network"], *times, ratio)
    console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="of mpcc's engine on each network; the stock engine runs once")
    parser.add_argument("--engine", choices=("crypten", "crypten-stock"), help="only that one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(options.runs) if options.engine != "crypten-stock" else []
    if options.engine != "crypten":
        if reason := unavailable():
            print(f"stock CrypTen is not measured: {reason}", file=sys.stderr)
        else:
            rows += measure_stock(1)
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        show(rows)
    return 1 if any(abs(row["predicted"] / row["quickest"] - 1) > MOST_OFF for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
