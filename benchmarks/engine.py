"""The engine beside stock CrypTen and CrypTorch on ViT-Lite 7/4/32, in one run: docs/engine.md, docs/engine.json.

    python -m benchmarks.engine            measure everything and write both files (about ten minutes)
    python -m benchmarks.engine --quick    no slow network for the stock engine, nothing written
    python -m benchmarks.engine --priority 10      the measured processes before others of a busy machine (needs root)

Softmax and true GELU, batch 1, weights and input secret, calibrated on images that are not among those run. Both
engines run in the same way: processes over plain TCP, on loopback and inside network namespaces (`netns.py`) whose
link has a real round trip. Without root mpcc is measured on the transport's own emulated link instead, and the stock
engine's seconds there are predicted and marked so.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.netns import Namespaces, unavailable
from benchmarks.parties import launch
from benchmarks.parties.page import page
from benchmarks.parties.paired import go_first, paired
from mpcc import registry
from mpcc.approximate import Plan
from mpcc.cost import Network, estimate_graph
from mpcc.errors import MpccError
from mpcc.lowering import Settings
from mpcc.pipeline import Prepared, first_plan, prepare, schedule, task_of
from mpcc.program import Program
from mpcc.runtime.native.library import library
from mpcc.runtime.net.transport import LinkModel
from mpcc.runtime.session.session import Session
from mpcc.search.gates import quickest
from mpcc.search.target import Target
from tests.models.vit_lite import smooth_image, vit_lite_7_4_32

DOCS = Path(__file__).parents[1] / "docs"
LINK = "20ms,1Gb/s"
NETWORKS = ("lan", LINK, "wan")
IMAGES, CALIBRATION = range(1, 6), range(1000, 1064)
"""Seeds of the images that are run and of those for calibration."""
CRYPTORCH = {
    "system": "CrypTorch, published/measured elsewhere",
    "rounds": 646,
    "bytes": 147.5e6,
    "error": 0.035,
    "cpu": 2.01,
}
"""Its best knobs, on the same model; the seconds are of an idle machine."""
STOCK_FAILURE = 1.4e-3
"""Local truncation of CrypTen: the sum of |v| * 2^-64 over the truncated integers v of this model."""


def stock(graph: Any, image: Tensor, expected: Tensor, link: Network, slow: bool) -> dict[str, Any]:
    """The row of the stock engine: loopback, loopback again by the processor's clock, the slow link."""
    plain, cpu = launch.stock(graph, image), launch.stock(graph, image, cpu=True)
    row = {
        "system": "stock CrypTen",
        "rounds": plain.rounds,
        "bytes": plain.bytes,
        "error": _error([plain.output], [expected]),
        "failure": STOCK_FAILURE,
        "cpu": max(cpu.seconds),
        "loopback": max(plain.seconds),
        "link": float(estimate_graph(graph, registry.protocol("crypten-stock"), link).seconds),
        "link_how": "predicted",
    }
    if slow and not unavailable():
        with Namespaces(2, link) as spaces:
            row |= {"link": max(launch.stock(graph, image, spaces).seconds), "link_how": "measured, namespaces"}
    return row


def ours(program: Program, images: list[Tensor], expected: list[Tensor], link: Network) -> dict[str, Any]:
    """The row of mpcc; seconds are the least of the images', as the machine may be busy with other work."""
    plain, cpu = launch.mpcc(program, images), launch.mpcc(program, images, cpu=True)
    cost = program.cost
    assert all(run.rounds == cost.rounds and run.bytes == cost.bytes for run in plain), "not as predicted"
    row = {
        "system": "mpcc",
        "rounds": plain[0].rounds,
        "bytes": plain[0].bytes,
        "setup_bytes": cost.setup_bytes + cost.setup_dealer_bytes,
        "dealer_bytes": cost.dealer_bytes,
        "error": _error([run.output for run in plain], expected),
        "failure": program.failure_probability,
        "cpu": min(max(run.seconds) for run in cpu),
        "loopback": min(run.seconds[1] for run in plain),
    }
    if unavailable():
        return row | {"link": _emulated(program, images, link), "link_how": "measured, emulated by the transport"}
    with Namespaces(3, link) as spaces:
        measured = launch.mpcc(program, images, spaces)
    return row | {"link": min(run.seconds[1] for run in measured), "link_how": "measured, namespaces"}


def check_time(program: Program, images: list[Tensor], cpu: float, priority: int) -> list[dict[str, Any]]:
    """T = CPU + rounds * RTT / 2 + one direction's bytes / bandwidth, predicted and measured on emulated networks."""
    cost, protocol = program.cost, registry.protocol("mpcc")
    rows = []
    for name in NETWORKS:
        network = Network.parse(name)
        wire = cost.rounds * protocol.rtt_per_round * network.rtt_seconds + cost.busier_bytes / network.bandwidth
        found = paired(program, images, network, priority=priority)
        rows.append({"network": name, "wire": wire, **found, "from_cpu": cpu + wire, "load_average": os.getloadavg()[0]})
        print(rows[-1], flush=True)
    return rows


def strict(prepared: Prepared, plan: Plan, images: list[Tensor], expected: list[Tensor]) -> list[dict[str, Any]]:
    """What a smaller probability of failure costs."""
    from mpcc.runtime.engine.emulate import Emulator

    rows = []
    for budget in (1e-6, 1e-9):
        try:
            program = schedule(prepared, plan, Settings(failure_budget=budget))
        except MpccError as error:
            rows.append({"budget": budget, "refused": str(error)})
            continue
        emulator, cost = Emulator(program), program.cost
        rows.append(
            {
                "budget": budget,
                "failure": program.failure_probability,
                "rounds": cost.rounds,
                "bytes": cost.bytes,
                "dealer_bytes": cost.dealer_bytes,
                "error": _error([emulator(image)[0] for image in images], expected),
            }
        )
    return rows


def _emulated(program: Program, images: Sequence[Tensor], network: Network) -> float:
    """The least online seconds over the images, on a link that the transport emulates."""
    with Session(program, "benchmark", LinkModel(network.rtt_seconds, network.bandwidth)) as session:
        return min(session.run(image).seconds for image in images)


def _error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))


@torch.no_grad()
def measure(quick: bool, priority: int) -> dict[str, Any]:
    model, example = vit_lite_7_4_32()
    images = [smooth_image(32, seed=seed) for seed in IMAGES]
    expected = [model(image) for image in images]
    calibration = torch.cat([smooth_image(32, seed=seed) for seed in CALIBRATION])
    prepared = prepare(model, example, calibration=calibration)
    best = quickest(first_plan(prepared, "bounded"), task_of(prepared, Target(network=LINK)))
    plan, program = best.plan, best.program
    print(f"compiled: {program.cost}", flush=True)
    if priority:
        os.nice(-priority)  # what is started from now on inherits it
        go_first(priority, "self")
    link = Network.parse(LINK)
    mine = ours(program, images, expected, link)
    print(mine, flush=True)
    theirs = stock(prepared.source, images[0], expected[0], link, slow=not quick)
    print(theirs, flush=True)
    return {
        "command": "python -m benchmarks.engine",
        "machine": {
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "gates": "numpy" if library() is None else "C",
            "load_average": os.getloadavg()[0],
            "priority": priority,
        },
        "link": LINK,
        "images": len(images),
        "calibration_images": len(calibration),
        "namespaces": unavailable() or "used",
        "systems": [theirs, CRYPTORCH, mine],
        "strict": strict(prepared, plan, images, expected),
        "time": check_time(program, images, mine["cpu"], priority),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="in short; nothing is written")
    parser.add_argument("--page", action="store_true", help="write docs/engine.md anew from docs/engine.json")
    parser.add_argument("--priority", type=int, default=0, help="how far measured processes go before others (0 to 20)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if reason := unavailable():
        print(f"no network namespaces: {reason}; the stock engine's seconds on {LINK} will be predicted")
    kept = DOCS / "engine.json"
    found = json.loads(kept.read_text()) if arguments.page else measure(arguments.quick, arguments.priority)
    small, base, tokens = (
        json.loads(path.read_text()) if path.exists() else None
        for path in (DOCS / name for name in ("vit_small.json", "vit_base.json", "tokens.json"))
    )
    text = page(found, [one for one in (small, base) if one is not None], tokens)
    print(text)
    if not arguments.quick:
        kept.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        (DOCS / "engine.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
