"""mpcc optimize --pareto: the Pareto front as a table, as a plot, and as one plan.json per point."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from mpcc.show.units import count, duration, size, small

from .screen import console, emit

if TYPE_CHECKING:
    from mpcc.approximate import Choice, Plan, Split
    from mpcc.pipeline import Front


def draw(front: Front, place: Path, as_json: bool) -> None:
    """Write the folder of a Pareto front, and print the front."""
    from mpcc.show.front import document, write_front

    write_front(front, place)
    if as_json:
        emit(document(front))
        return
    out = console()
    out.print(table(front))
    out.print(f"Plans and plots: {place}", highlight=False)
    out.print(f"Compile one of them: mpcc optimize MODEL --plan {place / '01.plan.json'}", highlight=False)
    if not front.calibrated:
        text = "Accuracy unknown: no images were given, and quality was measured on synthetic inputs. Use --calibration."
        out.print(text, highlight=False)


def table(front: Front) -> Table:
    """One row per plan, the fastest first."""
    first = front.points[0].estimate
    made = Table(title=f"Pareto-optimal plans for {first.protocol} on {first.network}", title_justify="left")
    for name in ("plan", "seconds", "rounds", "bytes", front.loss, front.drop, "chosen"):
        made.add_column(name, justify="left" if name in ("plan", "chosen") else "right", overflow="fold")
    for number, point in enumerate(front.points, 1):
        estimate = point.estimate
        made.add_row(
            f"{number:02}", duration(float(estimate.seconds)), count(float(estimate.rounds)), size(float(estimate.bytes)),
            small(point.loss), small(point.drop), named(point.plan),
        )  # fmt: skip
    made.caption = f"{front.loss} and {front.drop}: on {front.images} calibration input(s)"
    return made


def named(plan: Plan) -> str:
    """What a plan chose, preceded by the recipe it comes from, if any."""
    recipe = plan.notes.get("recipe")
    return kinds(plan.choices) if recipe is None else f"{recipe}: {kinds(plan.choices)}"


def kinds(choices: Mapping[str, Choice | Split]) -> str:
    """`softmax_relu 4, gelu_quad 5`: how often each approximation was chosen."""
    from mpcc.show.front import tally

    return ", ".join(f"{name} {times}" for name, times in tally(choices).items())
