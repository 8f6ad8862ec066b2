"""docs/pareto.md and its pictures from the results of benchmarks/pareto.py and benchmarks/links.py."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.links import links_section
from mpcc.show.front import picture

TITLES = {"fashion": "Fashion-MNIST ViT (trained)", "vit_lite": "ViT-Lite 7/4/32 (random weights, smooth noise as images)"}
ROUNDING = 1e-5
"""Damages up to this are those of the fixed point."""
INTRODUCTION = """# The search against published recipes
<!-- written by: python -m benchmarks.pareto -->
`mpcc optimize --pareto --level structural` against the recipes of `mpcc optimize --recipe` (docs/plans.md), without
training. Seconds are predicted, online, for one image. Damage is the Kullback-Leibler divergence of the class
probabilities from those of the model as it was, in nats an image, on held-out images, which choose nothing: for `mpcc`
by the fixed-point emulation of the program that would run; for the other protocols, which have prices but no program
here, in float. Plans are chosen on calibration images, in float.

Recipes take the best bounded approximation for what they keep; `stock` keeps everything. Without training some of them
cannot be run at all: values leave the ring, or the program is refused as too coarse in fixed point. Damages below 1e-5
are roundings: there the order of two plans says nothing.

A recipe is **dominated** by a point of the front that is at least as fast and no more damaging. **Beaten by it** is
what must not be: a recipe that is both faster and less damaging than a point of the front. Damages up to 1e-5 count as
equal. The front has points spread evenly over the logarithm of the time, and the best that is found around a recipe
within its time; where no such plan is clearly better (by a fifth, on the calibration images) the recipe is itself a
point, and is named there. It is a front on the calibration images; on held-out ones a point may be beaten by a faster
one, and `inf` is a plan whose polynomials are left behind by a value that no calibration image had.

`python -m benchmarks.pareto fashion vit_lite` makes the rows that are not there.
"""


def write_page(docs: Path, models: Sequence[Mapping[str, Any]]) -> None:
    """docs/pareto.md and one picture for each model, protocol and network."""
    lines = [INTRODUCTION, *summary(models)]
    for model in models:
        lines += [f"## {TITLES[model['model']]}", ""]
        lines += [f"{model['images']} held-out images, {model['calibration']} for calibration.", ""]
        for cell in model["results"]:
            stem = f"pareto-{model['model']}-{cell['protocol']}-{cell['network']}"
            lines += section(stem, cell)
            draw(docs / f"{stem}.svg", cell)
    links = docs / "links.json"
    if links.exists():
        lines += links_section(json.loads(links.read_text(encoding="utf-8")))
    (docs / "pareto.md").write_text("\n".join(lines), encoding="utf-8")


def summary(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """One row for each model, protocol and network: which recipes are dominated and which are not."""
    lines = [
        "| model | protocol | network | recipes dominated | not dominated | beats a point |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for model in models:
        for cell in model["results"]:
            run = {name: other for name, other in cell["recipes"].items() if "error" not in other}
            covered = [name for name, other in run.items() if dominating(cell["front"], other) is not None]
            rest, beats = [n for n in run if n not in covered], [n for n, other in run.items() if beaten(cell["front"], other)]
            lines.append(
                f"| {model['model']} | {cell['protocol']} | {cell['network']} | {len(covered)} of {len(run)} | "
                f"{', '.join(rest) or 'none'} | {', '.join(beats) or 'none'} |"
            )
    return [*lines, ""]


def section(stem: str, cell: Mapping[str, Any]) -> list[str]:
    """One protocol on one network: picture and table."""
    front = cell["front"]
    lines = [f"### {cell['protocol']}, {cell['network']}", "", f"![{stem}]({stem}.svg)", ""]
    lines += ["| plan | seconds | rounds | MB | damage | top class changes | |", "| --- | --: | --: | --: | --: | --: | --- |"]
    for number, point in enumerate(front, 1):
        chosen = ", ".join(f"{name} {times}" for name, times in point["chosen"].items())
        chosen = f"the recipe {point['recipe']}: {chosen}" if point.get("recipe") else chosen
        lines.append(f"| **front {number}** | {cells(point)} | {chosen} |")
    for name, other in cell["recipes"].items():
        if "error" in other:
            lines.append(f"| {name} | | | | | | cannot be run: {other['error']} |")
            continue
        by, beats = dominating(front, other), beaten(front, other)
        verdict = f"dominated by {by + 1}" if by is not None else "not dominated"
        verdict += f"; **front {', '.join(str(n + 1) for n in beats)} beaten by it**" if beats else ""
        lines.append(f"| {name} | {cells(other)} | {verdict} |")
    return [*lines, ""]


def dominating(front: Sequence[Mapping[str, Any]], other: Mapping[str, Any]) -> int | None:
    """The least damaging point of the front that is at least as fast and no more damaging."""
    found = [n for n, p in enumerate(front) if p["seconds"] <= other["seconds"] and damage(p) <= damage(other)]
    return min(found, key=lambda n: damage(front[n]), default=None)


def beaten(front: Sequence[Mapping[str, Any]], other: Mapping[str, Any]) -> list[int]:
    """The points of the front that the other plan beats in both."""
    return [n for n, p in enumerate(front) if other["seconds"] < p["seconds"] and damage(other) < damage(p)]


def damage(point: Mapping[str, Any]) -> float:
    """A damage to be compared: roundings are equal, what is no number is infinite."""
    return math.inf if point["damage"] is None else max(float(point["damage"]), ROUNDING)


def cells(point: Mapping[str, Any]) -> str:
    shown = "inf" if point["damage"] is None else f"{point['damage']:.2g}"
    return (
        f"{point['seconds']:.3g} | {point['rounds']:.0f} | {point['bytes'] / 1e6:.3g} | {shown} | {point['drop']:.1%}"
    )


def draw(place: Path, cell: Mapping[str, Any]) -> None:
    """Damage over seconds: the front as steps, recipes as marks."""
    curve = [(point["seconds"], point["damage"]) for point in cell["front"] if point["damage"] is not None]
    run = {name: other for name, other in cell["recipes"].items() if other.get("damage") is not None}
    others = {name: (other["seconds"], other["damage"]) for name, other in run.items()}
    picture({"the search": curve}, "KL divergence, held-out images", others).savefig(place, metadata={"Date": None})
