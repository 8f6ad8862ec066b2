"""The folder of a Pareto front: one plan.json per point, front.json with cost and quality loss, front.svg and front.png.

    front/01.plan.json ... front.json front.svg front.png          plans ordered by seconds
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpcc.bundle.folder import FRONT
from mpcc.bundle.write import replaced
from mpcc.files import write

from .figure import figure, save

if TYPE_CHECKING:
    from mpcc.approximate import Choice, Split
    from mpcc.search.pareto import Front


def write_front(front: Front, place: Path) -> Path:
    """Write the folder atomically. BundleError if `place` exists and is not an older front."""
    with replaced(place, FRONT) as new:
        for number, point in enumerate(front.points, 1):
            write(new / f"{number:02}.plan.json", point.plan.to_json())
        write(new / FRONT, json.dumps(document(front), indent=2) + "\n")
        plot = picture({"this search": _curve(front)}, front.loss)
        save(plot, new / "front.svg")
        save(plot, new / "front.png", dpi=120)
    return place


def document(front: Front) -> dict[str, Any]:
    """The front as JSON."""
    first = front.points[0].estimate
    return {
        "protocol": first.protocol,
        "network": first.network,
        "quality_loss": front.loss,
        "damage": front.loss,  # here and below the former name, for one more release
        "drop": front.drop,
        "images": front.images,
        "calibrated": front.calibrated,
        "machine": dict(first.machine),
        "baseline_seconds": float(front.baseline.seconds),
        "points": [
            {
                "plan": f"{number:02}.plan.json",
                "seconds": float(point.estimate.seconds),
                "rounds": float(point.estimate.rounds),
                "bytes": float(point.estimate.bytes),
                "quality_loss": point.loss,
                "predicted_quality_loss": point.predicted_loss,
                "damage": point.loss,
                "predicted_damage": point.predicted_loss,
                "drop": point.drop,
                "chosen": tally(point.plan.choices),
                "recipe": point.plan.notes.get("recipe"),
            }
            for number, point in enumerate(front.points, 1)
        ],
    }


def tally(choices: Mapping[str, Choice | Split]) -> dict[str, int]:
    """Approximation -> how often it was chosen, sorted by name."""
    return dict(sorted(Counter(choice.approximation for entry in choices.values() for choice in entry.choices).items()))


def _curve(front: Front) -> list[tuple[float, float]]:
    return [(float(point.estimate.seconds), point.loss) for point in front.points]


def picture(
    curves: Mapping[str, list[tuple[float, float]]], unit: str, others: Mapping[str, tuple[float, float]] | None = None
) -> Any:
    """Quality loss over seconds, both logarithmic: fronts as step curves, single plans as labelled crosses."""
    with figure(6.4, 4.0) as made:
        axes = made.subplots()
        for name, points in curves.items():
            axes.plot([x for x, _ in points], [max(y, 1e-12) for _, y in points], "o-", label=name, drawstyle="steps-post", ms=4)
        for name, (x, y) in (others or {}).items():
            axes.plot([x], [max(y, 1e-12)], "x", color="#a33")
            axes.annotate(name, (x, max(y, 1e-12)), xytext=(4, 4), textcoords="offset points", fontsize=8)
        axes.set(xscale="log", yscale="log", xlabel="predicted online seconds", ylabel=unit)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return made
