"""The search against fixed recipes, without training: damage on held-out images over predicted seconds.

    python benchmarks/pareto.py [digits|fashion|vit_lite] [--images 256] [--points 6] [--protocol crypten ...]

Writes docs/pareto-<model>.json and, from all of them, docs/pareto.md and docs/pareto-<model>-<protocol>-<network>.svg.
A point is (seconds predicted for the whole program, Kullback-Leibler divergence of the outputs from those of the model
as it was). Recipes are fitted like the search's plans: site by site, to what each site sees under the choices before it.
Candidates are calibrated and weighed on training images; held-out images are only looked at for the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from models.vit_lite import vit_lite_7_4_32

from mpcc import pipeline, registry
from mpcc.bundle.front import picture, tally
from mpcc.choose import Search, priced
from mpcc.cost import Budget, Network
from mpcc.errors import MpccError
from mpcc.ir.ranges import stack_calls
from mpcc.rewrite import Choice, Plan, SiteStatistics, Split
from mpcc.search import Sensitivity, in_order

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NETWORKS = ("lan", "wan")
LINKS = {"thin": "2ms,200kB/s", "slow": "200ms,1GB/s"}
"""Two links on which the same model wants different plans; only for the engine's own prices."""
PROTOCOLS = ("crypten", "crypten-stock", "semi2k", "cheetah", "aby3")
CALIBRATION = 64
Fitted = Callable[[SiteStatistics], Choice | Split]


def recipes() -> dict[str, Mapping[str, Any]]:
    """Name -> operator -> approximation, or a pair of them for alternating heads. What is not named stays accurate."""
    return {
        "accurate": {},
        "relu-softmax": {"softmax": "softmax_relu"},
        "scaling": {"softmax": "softmax_scaling"},
        "2quad": {"softmax": "softmax_2quad"},
        "mpcformer (2Quad + Quad)": {"softmax": "softmax_2quad", "gelu": "gelu_quad"},
        "the-x (+ ReLU)": {"softmax": "softmax_the_x", "gelu": "gelu_relu"},
        "mpcvit:0.5": {"softmax": ("softmax_relu", "softmax_scaling")},
        "mpcvit+": {"softmax": ("softmax_relu", "softmax_scaling"), "gelu": "gelu_relu"},
    }


def fitted(recipe: Mapping[str, Any], accurate: Plan) -> Fitted:
    """The choice of a recipe at a site, its first member as fitted there."""
    known = registry.approximations()

    def one(name: str, seen: SiteStatistics) -> Choice:
        members = known[name].candidates(seen)
        if not members:
            raise MpccError(f"{name} does not apply at {seen.site.name}")
        return Choice(name, dict(members[0]))

    def choose(seen: SiteStatistics) -> Choice | Split:
        wanted = recipe.get(seen.site.operator)
        if isinstance(wanted, tuple):
            heads = seen.site.shape[1]
            choices = [one(name, seen) for name in wanted]
            return Split.of(1, [choices[head % len(choices)] for head in range(heads)])
        usual = accurate.choices[seen.site.name].choices[0]
        return one(wanted or usual.approximation, seen)

    return choose


def measured(judge: Sensitivity, plan: Plan) -> tuple[float, float]:
    """(damage, part of the images whose top class changes) on the held-out images."""
    outputs = judge.joint(plan.choices)
    return judge.metric.damage(outputs, judge.reference), judge.metric.drop(outputs, judge.reference)


def run(name: str, images: int, points: int, protocols: list[str]) -> dict[str, Any]:
    """All fronts and recipes of one model."""
    model, calibration, held = MODELS[name](images)
    prepared = pipeline.prepare(*model, calibration=calibration)
    task = pipeline.task_of(prepared, network="lan", level="structural")
    search = Search(task)
    judge = Sensitivity.of(task.graph, stack_calls(task.graph, held), registry.approximations(), task.metric)
    accurate = pipeline.first_plan(prepared, "bounded")
    fixed: dict[str, Plan] = {}
    for recipe, choices in recipes().items():
        try:
            fixed[recipe] = in_order(task.graph, prepared.inputs, fitted(choices, accurate), registry.approximations())
        except MpccError as error:
            say(f"{recipe}: {error}")
    losses = {recipe: measured(judge, plan) for recipe, plan in fixed.items()}
    results = []
    for protocol in protocols:
        for network in (*NETWORKS, *(LINKS.values() if protocol == "crypten" else ())):
            here = search.under(registry.protocol(protocol), Network.parse(network))
            front = [
                {**row(point.estimate, *measured(judge, point.plan)), "chosen": tally(point.plan.choices)}
                for point in here.front(points)
            ]
            others = {}
            for recipe, plan in fixed.items():
                try:
                    others[recipe] = row(priced(here.task, plan), *losses[recipe])
                except MpccError as error:
                    say(f"{recipe} for {protocol}: {error}")
            found = {"protocol": protocol, "network": network, "front": front, "recipes": others}
            if "accurate" in others:
                half = here.within(Budget(others["accurate"]["seconds"] / 2, "seconds"))
                plan = None if half is None else half.point
                found["half"] = plan and {**row(plan.estimate, *measured(judge, plan.plan)), "chosen": tally(plan.plan.choices)}
            results.append(found)
            say(f"{name} {protocol} {network}: {len(front)} points, {len(others)} recipes")
    return {"model": name, "images": len(held), "calibration": len(calibration), "results": results}


def row(estimate: Any, damage: float, drop: float) -> dict[str, float]:
    return {
        "seconds": float(estimate.seconds), "rounds": float(estimate.rounds), "bytes": float(estimate.bytes),
        "damage": damage, "drop": drop,
    }  # fmt: skip


def beaten_by(front: list[dict[str, Any]], other: Mapping[str, float]) -> bool:
    """Whether some point of the front is neither slower nor more damaging than the other plan."""
    return any(p["seconds"] <= other["seconds"] and p["damage"] <= other["damage"] for p in front)


def beats(front: list[dict[str, Any]], other: Mapping[str, float]) -> bool:
    """Whether the other plan is both faster and less damaging than some point of the front."""
    return any(other["seconds"] < p["seconds"] and other["damage"] < p["damage"] for p in front)


def page(found: list[dict[str, Any]]) -> str:
    """docs/pareto.md"""
    lines = [
        "# The search against fixed recipes",
        "",
        "Made by `python benchmarks/pareto.py`. No training. Damage is the KL divergence from the model as it was, in",
        "nats an image, in float on held-out images; seconds are predicted for one inference online. Held-out images were",
        "used for nothing else. *Covered* recipes have a point of the front that is neither slower nor more damaging; a recipe",
        "that *beats* is both faster and less damaging than some point.",
        "",
    ]
    for model in found:
        lines += [f"## {model['model']}: {model['images']} held-out images", ""]
        for result in model["results"]:
            lines += section(model["model"], result)
    return "\n".join(lines)


def section(model: str, result: Mapping[str, Any]) -> list[str]:
    """One protocol on one network: picture and table."""
    front, recipes_ = result["front"], result["recipes"]
    stem = f"pareto-{model}-{result['protocol']}-{link(result['network'])}"
    lines = [f"### {result['protocol']}, {link(result['network'])} ({result['network']})", "", f"![{stem}]({stem}.svg)", ""]
    lines += ["| plan | seconds | rounds | MB | damage | top class changes | |", "| --- | --: | --: | --: | --: | --: | --- |"]
    for number, point in enumerate(front, 1):
        chosen = ", ".join(f"{name} {times}" for name, times in point["chosen"].items())
        lines.append(f"| **front {number}** | {cells(point)} | {chosen} |")
    if result.get("half"):
        chosen = ", ".join(f"{name} {times}" for name, times in result["half"]["chosen"].items())
        lines.append(f"| budget: half of the accurate plan | {cells(result['half'])} | {chosen} |")
    for name, other in recipes_.items():
        verdict = "beats a point" if beats(front, other) else "covered" if beaten_by(front, other) else "between points"
        lines.append(f"| {name} | {cells(other)} | {verdict} |")
    worse = [name for name, other in recipes_.items() if beats(front, other)]
    claim = "No recipe is both faster and less damaging than a point of the front."
    return [*lines, "", claim if not worse else f"Faster and less damaging than some point of the front: {', '.join(worse)}.", ""]


def link(network: str) -> str:
    """`thin` of the thin link."""
    return next((name for name, text in LINKS.items() if text == network), network)


def cells(point: Mapping[str, float]) -> str:
    return (
        f"{point['seconds']:.3g} | {point['rounds']:.0f} | {point['bytes'] / 1e6:.3g} | {point['damage']:.2g} | "
        f"{point['drop']:.1%}"
    )


def draw(model: dict[str, Any]) -> None:
    """One picture a protocol and network."""
    for result in model["results"]:
        curve = [(point["seconds"], point["damage"]) for point in result["front"]]
        others = {name.split(" ")[0]: (other["seconds"], other["damage"]) for name, other in result["recipes"].items()}
        figure = picture({"the search": curve}, "KL divergence, held-out images", others)
        place = DOCS / f"pareto-{model['model']}-{result['protocol']}-{link(result['network'])}.svg"
        figure.savefig(place, metadata={"Date": None})


def fashion(images: int) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """The trained Fashion-MNIST ViT; calibration from the training images, held-out from the test images."""
    sys.path.insert(0, str(ROOT / "examples" / "fashion_vit"))
    import data

    return (ROOT / "examples" / "fashion_vit" / "model.onnx", None), data.training()[0][:CALIBRATION], data.test()[0][:images]


def digits(images: int) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """The trained digits ViT; the committed calibration and held-out images."""
    import numpy as np

    folder = ROOT / "examples" / "digits_vit"
    seen = torch.from_numpy(np.load(folder / "calibration.npz")["images"])[:CALIBRATION]
    return (folder / "model.onnx", None), seen, torch.from_numpy(np.load(folder / "heldout.npz")["images"])[:images]


def vit_lite(images: int) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """ViT-Lite 7/4/32 as published, with random weights: its inputs are noise too."""
    noise = torch.randn(16 + images, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return vit_lite_7_4_32(), noise[:16], noise[16:]


MODELS: dict[str, Callable[[int], tuple[Any, torch.Tensor, torch.Tensor]]] = {
    "digits": digits, "fashion": fashion, "vit_lite": vit_lite,
}  # fmt: skip


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="of digits, fashion, vit_lite; none: only write the page anew")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--points", type=int, default=6)
    parser.add_argument("--protocol", action="append", choices=PROTOCOLS)
    arguments = parser.parse_args()
    for name in arguments.models:
        made = run(name, arguments.images, arguments.points, arguments.protocol or list(PROTOCOLS))
        (DOCS / f"pareto-{name}.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    found = [json.loads(path.read_text()) for name in MODELS if (path := DOCS / f"pareto-{name}.json").exists()]
    for model in found:
        draw(model)
    (DOCS / "pareto.md").write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
