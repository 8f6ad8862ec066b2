"""The search against published recipes, without training: quality loss on held-out images over predicted seconds.

    python -m benchmarks.pareto [fashion] [vit_lite] [--protocol mpcc ...] [--points 6]

Writes docs/pareto-<model>.json after every protocol and network, and takes up where it stopped: what stands there with
the same numbers of images and points is kept. From all of them, and from docs/links.json (benchmarks/links.py), it
writes docs/pareto.md and docs/pareto-<model>-<protocol>-<network>.svg; without a model it does only that.

Recipes are those of `mpcc optimize --recipe`, the front is that of `mpcc optimize --pareto`. Held-out images choose
nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.pareto_page import write_page
from examples.fashion_vit import data
from mpcc import files, pipeline, registry
from mpcc.approximate import Plan
from mpcc.calibration.ranges import stack_calls
from mpcc.cost import Estimate, Network
from mpcc.errors import MpccError
from mpcc.runtime.engine.emulate import Emulator
from mpcc.search import Sensitivity
from mpcc.search.pareto import front_points
from mpcc.search.pricing import priced
from mpcc.search.recipes import compared
from mpcc.search.search import Search
from mpcc.search.target import Objective
from mpcc.show.front import tally
from tests.models.vit_lite import smooth_image, vit_lite_7_4_32

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NETWORKS = ("lan", "wan")
PROTOCOLS = ("mpcc", "semi2k", "cheetah", "aby3", "crypten-stock")
CALIBRATION = {"fashion": 64, "vit_lite": 16}
HELD_OUT = {"fashion": 64, "vit_lite": 32}
Data = tuple[Any, Tensor, Tensor]


class Judge:
    """Quality loss and drop of plans on held-out images: by fixed-point emulation of the program, or in float."""

    def __init__(self, prepared: pipeline.Prepared, search: Search, held: Tensor) -> None:
        self.prepared, self.columns = prepared, stack_calls(prepared.graph, held)
        self.floats = Sensitivity.of(prepared.graph, self.columns, registry.approximations(), search.trials.task.metric)
        self.known: dict[tuple[str, bool], dict[str, float | None]] = {}

    def __call__(self, plan: Plan, emulated: bool) -> dict[str, float | None]:
        """The loss is None where values are NaN or infinite."""
        key = plan.key, emulated
        if key not in self.known:
            if emulated:
                outputs = tuple(Emulator(pipeline.schedule(self.prepared, plan)).calls(*self.columns))
            else:
                outputs = self.floats.joint(plan.choices)
            metric, reference = self.floats.metric, self.floats.reference
            loss = metric.loss(outputs, reference)
            self.known[key] = {
                "loss": loss if math.isfinite(loss) else None,
                "drop": metric.drop(outputs, reference),
            }
        return self.known[key]


class Comparison:
    """One model: its search, the plans of the recipes, and what judges them."""

    def __init__(self, name: str) -> None:
        model, self.calibration, held = MODELS[name](CALIBRATION[name], HELD_OUT[name])
        self.prepared = pipeline.prepare(*model, calibration=self.calibration)
        self.search = Search.of(pipeline.task_of(self.prepared, objective=Objective("structural")))
        self.judge = Judge(self.prepared, self.search, held)
        self.recipes = {recipe: self.search.trials.judge.recipe(recipe) for recipe in compared()}

    def cell(self, protocol: str, network: str, points: int) -> dict[str, Any]:
        """Front and recipes for one protocol on one network."""
        one = registry.protocol(protocol)
        task = replace(self.search.trials.task, protocol=one, network=Network.parse(network), compute=one.compute)
        here = self.search.under(task)
        others: dict[str, Any] = {}
        for recipe, plan in self.recipes.items():
            try:
                others[recipe] = self.row(plan, priced(task, plan))
            except MpccError as error:
                others[recipe] = {"error": error.what}
        found = [
            self.row(p.plan, p.estimate) | {"chosen": tally(p.plan.choices), "recipe": p.plan.notes.get("recipe")}
            for p in front_points(here, points)
        ]
        return {"protocol": protocol, "network": network, "front": found, "recipes": others}

    def row(self, plan: Plan, estimate: Estimate) -> dict[str, Any]:
        """A plan's cost, and its quality loss by the emulation of what would run, or in float where nothing would."""
        cost = {"seconds": float(estimate.seconds), "rounds": float(estimate.rounds), "bytes": float(estimate.bytes)}
        return cost | self.judge(plan, registry.protocol(estimate.protocol).scheduled)


def run(name: str, points: int, protocols: list[str]) -> None:
    """The cells of one model that are not there yet, each written as soon as it is known."""
    place = DOCS / f"pareto-{name}.json"
    asked = {"model": name, "images": HELD_OUT[name], "calibration": CALIBRATION[name], "points": points}
    known = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    if {key: known.get(key) for key in asked} != asked:
        known = {**asked, "results": []}
    done = {(cell["protocol"], cell["network"]) for cell in known["results"]}
    todo = [(p, n) for p in protocols for n in NETWORKS if (p, n) not in done]
    if not todo:
        return
    comparison = Comparison(name)
    for protocol, network in todo:
        known["results"].append(comparison.cell(protocol, network, points))
        known["results"].sort(key=lambda cell: (PROTOCOLS.index(cell["protocol"]), NETWORKS.index(cell["network"])))
        files.write(place, json.dumps(known, indent=1, allow_nan=False) + "\n")
        print(f"{name} {protocol} {network}", file=sys.stderr, flush=True)


def fashion(seen: int, held: int) -> Data:
    """The trained Fashion-MNIST ViT; calibration from the training images, held-out from the test images."""
    return (ROOT / "examples" / "fashion_vit" / "model.onnx", None), data.training()[0][:seen], data.test()[0][:held]


def vit_lite(seen: int, held: int) -> Data:
    """ViT-Lite 7/4/32 as published, with random weights: its images are smooth noise."""
    noise = smooth_image(32, batch=seen + held)
    return vit_lite_7_4_32(), noise[:seen], noise[seen:]


MODELS: dict[str, Callable[[int, int], Data]] = {"fashion": fashion, "vit_lite": vit_lite}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(MODELS)}; none: only write the page anew")
    parser.add_argument("--points", type=int, default=6)
    parser.add_argument("--protocol", action="append", choices=PROTOCOLS)
    arguments = parser.parse_args()
    for name in arguments.models:
        run(name, arguments.points, arguments.protocol or list(PROTOCOLS))
    found = [json.loads(path.read_text()) for name in MODELS if (path := DOCS / f"pareto-{name}.json").exists()]
    write_page(DOCS, found)


if __name__ == "__main__":
    main()
