"""A budget of half the accurate plan's latency: predicted, and measured on a link with a real round trip.

    python -m benchmarks.half_budget [--runs 5] [--network wan --network 20ms,1Gb/s]      docs/half_budget.json

The digits ViT, level structural, calibrated. The accurate plan and the plan that the search finds for half of its
predicted seconds are run by three processes over plain TCP in network namespaces (`netns.py`, needs root); without
root on the link that the transport emulates. Seconds are those of the quickest run: other work on the machine only
adds. Exit code 1 when the budget, or a prediction by more than a tenth, is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

import mpcc
from benchmarks.netns import Namespaces, unavailable
from benchmarks.parties import launch
from mpcc.cost import Budget, Network
from mpcc.program import Program
from mpcc.runtime.net.transport import LinkModel
from mpcc.runtime.session.session import Session

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits_vit"
NETWORKS = ("wan", "20ms,1Gb/s")
MOST_OFF = 0.1


def measured(program: Program, link: Network, runs: int) -> float:
    """Seconds of the quickest online phase."""
    images = [torch.zeros(tuple(node.meta["val"].shape)) for node in program.inputs()] * runs
    if unavailable():
        with Session(program, "benchmark", LinkModel(link.rtt_seconds, link.bandwidth)) as session:
            return min(session.run(image).seconds for image in images)
    with Namespaces(3, link) as spaces:
        return min(run.seconds[1] for run in launch.mpcc(program, images, spaces))


def rows(network: str, runs: int) -> list[dict[str, Any]]:
    """The accurate plan and the one for half of its time."""
    link = Network.parse(network)
    given = {"calibration": DIGITS / "calibration.npz", "network": link}
    accurate = mpcc.optimize(DIGITS / "model.onnx", **given)
    budget = Budget(float(accurate.estimate.seconds) / 2, "seconds")
    half = mpcc.optimize(DIGITS / "model.onnx", level="structural", budget=budget, **given)
    found = []
    for name, made in (("accurate", accurate), ("half", half)):
        predicted, took = float(made.estimate.seconds), measured(made.program, link, runs)
        found.append(
            {
                "network": network, "plan": name, "rounds": int(made.estimate.rounds), "bytes": float(made.estimate.bytes),
                "budget": budget.amount if name == "half" else None, "predicted": predicted, "measured": took,
                "off": took / predicted - 1, "load_average": os.getloadavg()[0],
            }
        )  # fmt: skip
        print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--network", action="append")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = [row for network in arguments.network or NETWORKS for row in rows(network, arguments.runs)]
    how = "the link that the transport emulates" if unavailable() else "network namespaces"
    document = {"measured_on": how, "runs": arguments.runs, "rows": found}
    (ROOT / "docs" / "half_budget.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    over = [row for row in found if row["budget"] is not None and row["measured"] > row["budget"] * (1 + MOST_OFF)]
    off = [row for row in found if abs(row["off"]) > MOST_OFF]
    for row in over:
        print(f"{row['network']}: {row['measured']:.3g} s is more than a tenth above the budget of {row['budget']:.3g} s")
    for row in off:
        print(f"{row['network']}, {row['plan']}: measured {row['off']:+.0%} of what was predicted")
    sys.exit(bool(over or off))


if __name__ == "__main__":
    main()
