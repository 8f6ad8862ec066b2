"""Structural plans of digits chosen for aby3 and for semi2k, both run under aby3: messages, bytes, seconds, answers.

    python -m benchmarks.spu.plans [--python PATH] [--bundles FOLDER] [--max-drop 0.01] [--effort 120] [--rounds 5] [--counts]

Both searches get the same images, seconds of trying and accuracy to keep. Seconds are medians over `--rounds` turns, in which
the two plans take turns; they want a quiet machine. `--counts` leaves them out: messages and bytes do not depend on it. Rows go
to docs/spu-plans.json; `python -m benchmarks.spu.models --page` puts them into docs/spu.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mpcc
from examples.digits_vit.model import digits_vit
from mpcc import files
from mpcc.approximate import Plan
from mpcc.runtime.executable import Executable
from mpcc.runtime.spu.running import predicted, run_calls
from mpcc.training.datasets import built_in

JSON = Path(__file__).parents[2] / "docs" / "spu-plans.json"
RUN_UNDER, OTHER = "aby3", "semi2k"
CALIBRATION, SHOWN = 128, 100
CALLS = 3
"""Inferences of one turn: the first of a session meets its peers."""


@dataclass(frozen=True)
class Data:
    images: Tensor
    test: Tensor
    labels: Tensor


def data() -> Data:
    found = built_in("digits")
    assert found.test is not None
    return Data(found.images[:CALIBRATION], *(one[:SHOWN] for one in found.test))


def chosen(for_protocol: str, given: Data, options: argparse.Namespace) -> Plan:
    """The plan that a search finds for a protocol."""
    made = mpcc.optimize(
        digits_vit()[0].eval(), (given.images[:1],), calibration=given.images, protocol=for_protocol, machine="reference",
        network="lan", level="structural", max_drop=options.max_drop, effort=options.effort,
    )  # fmt: skip
    return made.plan


def bundle(for_protocol: str, given: Data, options: argparse.Namespace, folder: Path) -> Path:
    """That plan, made for the protocol that both run under."""
    place = folder / f"digits-{for_protocol}-plan"
    if not place.exists():
        plan = chosen(for_protocol, given, options)
        mpcc.optimize(
            digits_vit()[0].eval(), (given.images[:1],), calibration=given.images, protocol=RUN_UNDER, machine="reference",
            network="lan", level="structural", plan=plan,
        ).save(place)  # fmt: skip
    return place


def counts(for_protocol: str, executable: Executable, given: Data, options: argparse.Namespace) -> dict[str, Any]:
    """What one plan costs by the price table, which is exact here, and what it answers."""
    assert executable.circuit is not None
    price, emulated = predicted(executable.circuit.circuit), executable.emulate(given.test, check=False)
    assert isinstance(emulated, Tensor)
    return {
        "chosen_for": for_protocol,
        "run_under": RUN_UNDER,
        "max_drop": options.max_drop,
        "right": int((emulated.argmax(-1) == given.labels).sum()),
        "images": len(given.test),
        "hops": round(float(price.rounds)),
        "predicted_messages": round(float(price.messages)),
        "predicted_bytes": round(float(price.bytes)),
        "predicted_seconds": float(price.seconds),
        "date": datetime.date.today().isoformat(),
    }


def timed(both: dict[str, Executable], given: Data, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Seconds of an inference, messages and bytes as they were counted; the plans take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in both}
    found: dict[str, dict[str, Any]] = {}
    for _ in range(options.rounds):
        for name, executable in both.items():
            done = run_calls(executable, list(executable.calls(given.test[:CALLS])), options.python)
            seconds[name] += [one.seconds for one in done[1:]]
            found[name] = {"messages": done[-1].messages, "bytes": done[-1].bytes}
    return {name: {**found[name], "seconds": statistics.median(seconds[name])} for name in both}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--python", type=Path, help="the interpreter that has SPU, where this one has not")
    parser.add_argument("--bundles", type=Path, help="where bundles are kept, and taken from; else they are made anew")
    parser.add_argument("--max-drop", type=float, default=0.01)
    parser.add_argument("--effort", type=float, default=120.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--counts", action="store_true", help="no seconds: nothing is run under SPU")
    options = parser.parse_args()
    torch.manual_seed(0)
    given = data()
    with tempfile.TemporaryDirectory() as made:
        folder = options.bundles or Path(made)
        both = {name: mpcc.load(bundle(name, given, options, folder)) for name in (RUN_UNDER, OTHER)}
        rows = [counts(name, executable, given, options) for name, executable in both.items()]
        measured = {} if options.counts else timed(both, given, options)
    for one in rows:
        one |= measured.get(one["chosen_for"], {})
        print(json.dumps(one), flush=True)
    files.write(JSON, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
