"""The search on models that nothing was tuned on: budgets as parts of the bounded plan's time, accuracy on test images.

    python -m benchmarks.unseen                            the tune half on wan; writes docs/unseen.json and .md after each row
    python -m benchmarks.unseen --half test --network lan  the other half, to be looked at when a change is finished
    python -m benchmarks.unseen --again pre_norm           measures anew what docs/unseen.json has already
    python -m benchmarks.unseen --json other.json          keeps results elsewhere, and writes no page

Each model of the zoo is calibrated on 256 of its training images and asked for all budgets in one call, and for `--max-drop
0.5%`. Accuracy is that of the float model with the plan in place and compensated, as `mpcc optimize` leaves it, on test images;
beside it that of the bounded plan and of the recipes that meet the budget, compensated as well. A row remembers the commit of
the search that it was measured with.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.zoo.models import ZOO, named
from mpcc import files, pipeline, registry
from mpcc.approximate import Plan
from mpcc.calibration.ranges import stack_calls
from mpcc.cost import Budget
from mpcc.pipeline.compensation import found_for
from mpcc.search.effort import DEFAULT
from mpcc.search.known import Known
from mpcc.search.metrics import metric_of
from mpcc.search.questions import best_within_budgets, fastest_within_drop
from mpcc.search.search import Search
from mpcc.search.sensitivity import Sensitivity
from mpcc.search.target import Objective, Target
from mpcc.search.task import Chosen

DOCS = Path(__file__).parents[1] / "docs"
JSON = DOCS / "unseen.json"
PARTS = (1.0, 0.8, 0.65, 0.5, 0.35, 0.25)
GIVEN, MOST_TESTED, KEPT = 256, 1000, 0.005
Cell = tuple[str, str]
"""Protocol and network."""
ASKED = {0.8: 0.5, 0.65: 2.0, 0.5: 6.0}
"""Part of the bounded plan's time -> points of accuracy that may be lost there, on average."""


def measured(name: str, cells: Sequence[Cell], effort: float, mends: bool = True) -> Iterator[dict[str, Any]]:
    """One model under all budgets, for each protocol and network: sensitivities are measured once."""
    entry, start = ZOO[name], time.process_time()
    data = entry.data()
    prepared = pipeline.prepare(entry.model(), (data.test.images[:1],), calibration=data.training.images[:GIVEN])
    tested, search = Tested(prepared, data.test.images[:MOST_TESTED], data.test.labels[:MOST_TESTED]), None
    for protocol, network in cells:
        objective = Objective("structural", effort=effort)
        task = replace(pipeline.task_of(prepared, Target(protocol, network, "reference"), objective), compensate=mends)
        search = Search.of(task) if search is None else search.under(task)
        row = {"model": name, "half": entry.half, "network": network, "protocol": protocol, "effort": effort, "commit": commit()}
        yield row | asked(search, tested) | {"images": len(tested.labels), "processor": time.process_time() - start}
        start = time.process_time()


class Tested:
    """Accuracy on test images, in percent, of the model as it was and of plans, as they are and compensated."""

    def __init__(self, prepared: pipeline.Prepared, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.prepared, self.labels, self.metric = prepared, labels, metric_of(prepared.graph)
        self.own = Sensitivity.of(prepared.graph, stack_calls(prepared.graph, images), registry.approximations(), self.metric)
        self.known = dict[str, tuple[float, float]]()

    def accuracy(self, outputs: tuple[torch.Tensor, ...]) -> float:
        return 100 * float((outputs[0].flatten(0, 1).argmax(-1) == self.labels).double().mean())

    def __call__(self, plan: Plan) -> tuple[float, float]:
        """(as it is, compensated)."""
        if plan.key not in self.known:
            found = found_for(self.prepared, plan, self.metric, 0)
            after = replace(self.own, module=found.graph).joint(found.plan.choices)
            self.known[plan.key] = self.accuracy(self.own.joint(plan.choices)), self.accuracy(after)
        return self.known[plan.key]


def asked(search: Search, tested: Tested) -> dict[str, Any]:
    """What a search answers for one protocol and network."""
    known = Known(search.trials)
    assert known.accurate is not None
    bounded = float(known.accurate.estimate.seconds)
    points = [point for recipe in known.recipes if (point := known.point(recipe)) is not None]  # the best first
    within = [next((p for p in points if float(p.estimate.seconds) <= part * bounded), None) for part in PARTS]
    recipes = [
        (float(point.estimate.seconds) / bounded, tested(point.plan)[1], point.plan.notes["recipe"])
        for point in {p.plan.key: p for p in within if p is not None}.values()
    ]  # fmt: skip
    answers = best_within_budgets(search, [Budget(part * bounded, "seconds") for part in PARTS])
    cheapest = float(search.trials.estimate(search.cheapest(search.trials.speed)[0]).seconds) / bounded
    return {
        "float": tested.accuracy(tested.own.reference), "bounded": tested(known.accurate.plan)[0], "seconds": bounded,
        "recipes": recipes, "answers": [None if found is None else _answer(found, tested, bounded) for found in answers],
        "cheapest": cheapest, "kept": _answer(fastest_within_drop(search, KEPT), tested, bounded),
    }  # fmt: skip


def _answer(found: Chosen, tested: Tested, bounded: float) -> dict[str, Any]:
    plain, accuracy = tested(found.point.plan)
    return {
        "time": float(found.point.estimate.seconds) / bounded, "loss": found.point.loss, "drop": found.point.drop, "plain": plain,
        "accuracy": accuracy, "runs": found.runs, "stopped": found.stopped, "barred": len(found.barred),
    }  # fmt: skip


def commit() -> str:
    """The last one that changed the search or compensation."""
    rooms = ["mpcc/search", "mpcc/compensate"]
    command = ["git", "log", "-1", "--format=%h", "--", *rooms]
    return subprocess.run(command, cwd=DOCS.parent, check=True, capture_output=True, text=True).stdout.strip()


def error(row: dict[str, Any]) -> float:
    """Standard error of an accuracy, in points."""
    share = row["bounded"] / 100
    return 100 * math.sqrt(share * (1 - share) / row["images"])


def page(rows: list[dict[str, Any]]) -> str:
    """docs/unseen.md."""
    lines = [
        "# The search on models that nothing was tuned on",
        "<!-- written by: python -m benchmarks.unseen -->",
        "Budgets are parts of the bounded plan's predicted time. Entries are the accuracy, in percent, of the float model with",
        "the answer in place and compensated, on test images that chose nothing; behind a slash, that of the best recipe within",
        "the budget, compensated as well. `--max-drop 0.5%`: the part of the bounded plan's time that it takes; accuracy.",
        "There are 256 calibration images and no training. Constants were chosen on the half `tune`.",
        "",
        f"| model | half | network | protocol | bounded | {' | '.join(f'{part:.0%}' for part in PARTS)} | `--max-drop 0.5%` |",
        "| --- | --- | --- | --- | ---: |" + " ---: |" * (len(PARTS) + 1),
    ]
    for row in rows:
        cells = [_cell(row, part, found) for part, found in zip(PARTS, row["answers"], strict=True)]
        first = f"| {row['model']} | {row['half']} | {row['network']} | {row['protocol']} "
        kept = f"{row['kept']['time']:.0%}: {row['kept']['accuracy']:.1f}"
        lines.append(f"{first}| {row['bounded']:.1f} ± {error(row):.1f} | {' | '.join(cells)} | {kept} |")
    return "\n".join([*lines, "", *_notes(rows)]) + "\n"


def _cell(row: dict[str, Any], part: float, found: dict[str, Any] | None) -> str:
    best = max((accuracy for when, accuracy, _ in row["recipes"] if when <= part), default=None)
    own = "not met" if found is None else f"{found['accuracy']:.1f}"
    return own if best is None else f"{own} / {best:.1f}"


def _notes(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What was asked for, and whether it holds."""
    for half in dict.fromkeys(row["half"] for row in rows):
        own = [row for row in rows if row["half"] == half]
        for part, most in ASKED.items():
            place = PARTS.index(part)
            lost = [row["bounded"] - row["answers"][place]["accuracy"] for row in own if row["answers"][place] is not None]
            if lost:
                mean, asked = sum(lost) / len(lost), f"asked: {most}"
                rows_met = f"{len(lost)} of {len(own)} rows, in which it is met"
                yield f"* {half}, {part:.0%}: {mean:.1f} points lost on average over {rows_met} ({asked})."
        unmet = [row["model"] for row in own if _unmet(row)]
        yield f"* {half}: every budget that the cheapest plan meets is met, {_but(unmet)}."
        far = [row["model"] for row in own if row["bounded"] - row["kept"]["accuracy"] > 100 * KEPT + 2 * error(row)]
        yield f"* {half}: `--max-drop 0.5%` loses at most that and two standard errors, {_but(far)};"
        yield f"  it is faster than the bounded plan in {sum(row['kept']['time'] < 1 for row in own)} of {len(own)} rows."
        rising = [row["model"] for row in own if not _monotone(row)]
        yield f"* {half}: accuracy falls with the budget, within two standard errors, {_but(rising)}."
        below = [row["model"] for row in own if _below(row)]
        yield f"* {half}: no answer is below a recipe within its budget by more than two standard errors, {_but(below)}."


def _but(names: list[str]) -> str:
    return "in every row" if not names else f"but for {', '.join(names)}"


def _unmet(row: dict[str, Any]) -> bool:
    return any(found is None and row["cheapest"] <= part for part, found in zip(PARTS, row["answers"], strict=True))


def _monotone(row: dict[str, Any]) -> bool:
    found = [answer["accuracy"] for answer in row["answers"] if answer is not None]
    return all(tight <= loose + 2 * error(row) for loose, tight in itertools.pairwise(found))


def _below(row: dict[str, Any]) -> bool:
    for part, found in zip(PARTS, row["answers"], strict=True):
        best = max((accuracy for when, accuracy, _ in row["recipes"] if when <= part), default=0.0)
        if found is not None and found["accuracy"] < best - 2 * error(row):
            return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="of the half (default: all)")
    parser.add_argument("--half", choices=("tune", "test"), default="tune")
    parser.add_argument("--network", action="append", help="may be repeated (default: wan)")
    parser.add_argument("--protocol", action="append", help="may be repeated (default: mpcc)")
    parser.add_argument("--effort", type=float, default=DEFAULT)
    parser.add_argument("--again", action="store_true", help="measure anew what has been measured")
    parser.add_argument("--plain", action="store_true", help="compare plans as they are, and compensate the answers only")
    parser.add_argument("--json", type=Path, default=JSON)
    options = parser.parse_args()
    rows = json.loads(options.json.read_text("utf-8")) if options.json.exists() else []
    found = {(row["model"], row["protocol"], row["network"]): row for row in rows}
    for name in [entry.name for entry in named(options.half) if not options.models or entry.name in options.models]:
        cells = [(p, n) for p in options.protocol or ["mpcc"] for n in options.network or ["wan"]]
        cells = [cell for cell in cells if options.again or (name, *cell) not in found]
        for row in measured(name, cells, options.effort, not options.plain) if cells else ():
            found[name, row["protocol"], row["network"]] = row
            print(json.dumps(row), flush=True)
            files.write(options.json, json.dumps(list(found.values()), indent=1) + "\n")
            if options.json == JSON:
                files.write(DOCS / "unseen.md", page(list(found.values())))


if __name__ == "__main__":
    main()
