"""Predicted seconds beside measured ones: the digits model on three emulated networks.

    mpcc calibrate && python benchmarks/seconds.py [--runs 10] [--json]

Measured: three processes on this machine, messages delivered as late as the network would. On a machine that others use
too the quickest run says more than the middle one. Predicted with this machine's calibration, or else with the shipped
figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

import mpcc
from mpcc import registry
from mpcc.bundle.units import duration
from mpcc.cli.screen import console, progress
from mpcc.cost import Network
from mpcc.cost.machine import Machine
from mpcc.predict import program_estimate

FOLDER = Path(__file__).parents[1] / "examples" / "digits_vit"
NETWORKS = ("lan", "10ms,50MB/s", "wan")
WARM_UP = 2


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
                    "network": name,
                    "predicted": predicted,
                    "of it on the wire": wires,
                    "quickest": took[0],
                    "middle": took[len(took) // 2],
                }
            )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    machine = Machine.read()
    source = registry.protocol("crypten").compute.source if machine is None else machine.compute.source
    table = Table(title=f"Seconds of one private inference. Local work: {source}", title_justify="left")
    table.add_column("network")
    for name in ("predicted", "of it on the wire", "measured, quickest", "measured, middle", "predicted / quickest"):
        table.add_column(name, justify="right")
    for row in rows:
        ratio = f"{row['predicted'] / row['quickest'] - 1:+.0%}"
        times = (duration(row[name]) for name in ("predicted", "of it on the wire", "quickest", "middle"))
        table.add_row(row["network"], *times, ratio)
    console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(options.runs)
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
