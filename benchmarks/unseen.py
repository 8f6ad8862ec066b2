"""The search on models that nothing was tuned on: budgets as parts of the bounded plan's time, accuracy on test images.

    python -m benchmarks.unseen                            the tune half on wan; writes docs/unseen.json and .md after each model
    python -m benchmarks.unseen --half test --network lan  the other half, to be looked at when a change is finished
    python -m benchmarks.unseen --again pre_norm           measures anew what docs/unseen.json has already

Each model of the zoo is calibrated on 256 of its training images and asked for all budgets in one call. Accuracy is that of the
float model with the plan in place, on test images; beside it that of the bounded plan and of the recipes that meet the budget.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.zoo.models import ZOO, named
from mpcc import files, pipeline, registry
from mpcc.calibration.ranges import stack_calls
from mpcc.cost import Budget
from mpcc.search.known import Known
from mpcc.search.questions import best_within_budgets
from mpcc.search.search import Search
from mpcc.search.sensitivity import Sensitivity
from mpcc.search.target import Objective, Target

DOCS = Path(__file__).parents[1] / "docs"
JSON = DOCS / "unseen.json"
PARTS = (1.0, 0.8, 0.65, 0.5, 0.35, 0.25)
GIVEN, MOST_TESTED = 256, 2000
ASKED = {0.8: 0.5, 0.65: 2.0, 0.5: 6.0}
"""Part of the bounded plan's time -> points of accuracy that may be lost there, on average."""


def measured(name: str, network: str, protocol: str, effort: float) -> dict[str, Any]:
    """One model under all budgets."""
    entry, start = ZOO[name], time.process_time()
    data = entry.data()
    images, labels = data.test.images[:MOST_TESTED], data.test.labels[:MOST_TESTED]
    prepared = pipeline.prepare(entry.model(), (images[:1],), calibration=data.training.images[:GIVEN])
    target = Target(protocol, network, "reference")
    search = Search.of(pipeline.task_of(prepared, target, Objective("structural", effort=effort)))
    known = Known(search.trials)
    assert known.accurate is not None
    tested = Sensitivity.of(
        prepared.graph, stack_calls(prepared.graph, images), registry.approximations(), search.trials.task.metric
    )

    def accuracy(outputs: tuple[torch.Tensor, ...]) -> float:
        return 100 * float((outputs[0].reshape(len(images), -1).argmax(-1) == labels).double().mean())

    bounded = float(known.accurate.estimate.seconds)
    recipes = [
        (float(point.estimate.seconds) / bounded, accuracy(tested.joint(recipe.plan.choices)), recipe.plan.notes["recipe"])
        for recipe in known.recipes if (point := known.point(recipe)) is not None
    ]  # fmt: skip
    answers = best_within_budgets(search, [Budget(part * bounded, "seconds") for part in PARTS])
    return {
        "model": name, "half": entry.half, "network": network, "protocol": protocol, "effort": effort, "images": len(images),
        "float": accuracy(tested.reference), "bounded": accuracy(tested.joint(known.accurate.plan.choices)), "seconds": bounded,
        "recipes": recipes,
        "answers": [
            None if found is None else {
                "time": float(found.point.estimate.seconds) / bounded, "loss": found.point.loss, "drop": found.point.drop,
                "accuracy": accuracy(tested.joint(found.point.plan.choices)), "runs": found.runs, "stopped": found.stopped,
                "barred": len(found.barred),
            }
            for found in answers
        ],
        "processor": time.process_time() - start,
    }  # fmt: skip


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
        "the answer in place, on test images that chose nothing; behind a slash, that of the best recipe within the budget.",
        "There are 256 calibration images, no training and no compensation. Constants were chosen on the half `tune`.",
        "",
        f"| model | half | network | protocol | bounded | {' | '.join(f'{part:.0%}' for part in PARTS)} |",
        "| --- | --- | --- | --- | ---: |" + " ---: |" * len(PARTS),
    ]
    for row in rows:
        cells = [_cell(row, part, found) for part, found in zip(PARTS, row["answers"], strict=True)]
        first = f"| {row['model']} | {row['half']} | {row['network']} | {row['protocol']} "
        lines.append(f"{first}| {row['bounded']:.1f} ± {error(row):.1f} | {' | '.join(cells)} |")
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
                mean, asked = sum(lost) / len(lost), f"asked, with compensation: {most}"
                yield f"* {half}, {part:.0%}: {mean:.1f} points lost on average over {len(lost)} rows ({asked})."
        rising = [row["model"] for row in own if not _monotone(row)]
        yield f"* {half}: accuracy falls with the budget, within two standard errors, {_but(rising)}."
        below = [row["model"] for row in own if _below(row)]
        yield f"* {half}: no answer is below a recipe within its budget by more than two standard errors, {_but(below)}."


def _but(names: list[str]) -> str:
    return "in every row" if not names else f"but for {', '.join(names)}"


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
    parser.add_argument("--network", default="wan")
    parser.add_argument("--protocol", default="mpcc")
    parser.add_argument("--effort", type=float, default=60.0)
    parser.add_argument("--again", action="store_true", help="measure anew what has been measured")
    options = parser.parse_args()
    rows = json.loads(JSON.read_text("utf-8")) if JSON.exists() else []
    found = {(row["model"], row["network"], row["protocol"]): row for row in rows}
    for entry in named(options.half):
        key = entry.name, options.network, options.protocol
        if (not options.models or entry.name in options.models) and (key not in found or options.again):
            found[key] = measured(*key, options.effort)
            print(json.dumps(found[key]), flush=True)
            files.write(JSON, json.dumps(list(found.values()), indent=1) + "\n")
            files.write(DOCS / "unseen.md", page(list(found.values())))


if __name__ == "__main__":
    main()
