"""docs/pareto.md and its pictures from the results of benchmarks/pareto.py and benchmarks/links.py."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.links import links_section
from mpcc.show.figure import save
from mpcc.show.front import picture

TITLES = {"fashion": "Fashion-MNIST ViT (trained)", "vit_lite": "ViT-Lite 7/4/32 (random weights, smooth noise as images)"}
ROUNDING = 1e-5
"""Quality losses up to this are roundings of the fixed-point arithmetic."""
INTRODUCTION = """# The search against published recipes
<!-- written by: python -m benchmarks.pareto -->
`mpcc optimize --pareto --level structural` against the recipes of `mpcc optimize --recipe` (docs/plans.md), without
training. Seconds are predicted, online, for one image. The quality loss is the Kullback-Leibler divergence of the
class probabilities from those of the original model, in nats per image, on held-out images, which influence no choice: for
`mpcc` by the fixed-point emulation of the program that would run; for the other protocols, which have prices but no program
here, in float. Plans are chosen on calibration images, in float.

Recipes take the best bounded approximation for what they keep; `stock` keeps everything. Without training some of them
cannot be run at all: values leave the ring, or the program is refused as too coarse in fixed point. Losses below 1e-5
are roundings: there the order of two plans means nothing.

A recipe is **dominated** by a point of the front that is at least as fast and loses no more. A point of the front is
**beaten by** a recipe that is both faster and loses less, which should not happen. Losses up to 1e-5 count as equal. The
front has points spread evenly over the logarithm of the time, and the best that is found around a recipe within its time;
where no such plan is clearly better (by a fifth, on the calibration images) the recipe is itself a point, and is named there.
It is a front on the calibration images; on held-out ones a point may be beaten by a faster one, and `inf` is a plan in which
a value, unlike those of all calibration images, left the range of a polynomial.

`python -m benchmarks.pareto fashion vit_lite` computes the rows that are missing.
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
    lines += ["| plan | seconds | rounds | MB | quality loss | top class changes | |"]
    lines += ["| --- | --: | --: | --: | --: | --: | --- |"]
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
    """The point of least loss among those that are at least as fast and lose no more."""
    found = [n for n, p in enumerate(front) if p["seconds"] <= other["seconds"] and loss(p) <= loss(other)]
    return min(found, key=lambda n: loss(front[n]), default=None)


def beaten(front: Sequence[Mapping[str, Any]], other: Mapping[str, Any]) -> list[int]:
    """The points of the front that the other plan beats in both."""
    return [n for n, p in enumerate(front) if other["seconds"] < p["seconds"] and loss(other) < loss(p)]


def loss(point: Mapping[str, Any]) -> float:
    """For comparisons: roundings are equal, NaN or infinite values (None) are infinite."""
    return math.inf if point["loss"] is None else max(float(point["loss"]), ROUNDING)


def cells(point: Mapping[str, Any]) -> str:
    shown = "inf" if point["loss"] is None else f"{point['loss']:.2g}"
    return (
        f"{point['seconds']:.3g} | {point['rounds']:.0f} | {point['bytes'] / 1e6:.3g} | {shown} | {point['drop']:.1%}"
    )


def draw(place: Path, cell: Mapping[str, Any]) -> None:
    """Quality loss over seconds: the front as steps, recipes as marks."""
    curve = [(point["seconds"], point["loss"]) for point in cell["front"] if point["loss"] is not None]
    run = {name: other for name, other in cell["recipes"].items() if other.get("loss") is not None}
    others = {name: (other["seconds"], other["loss"]) for name, other in run.items()}
    save(picture({"the search": curve}, "KL divergence, held-out images", others), place)
