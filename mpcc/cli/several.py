"""mpcc optimize with several budgets: the model is measured once, and a bundle is written for each budget that can be met."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mpcc.errors import UsageError

from .screen import console, emit

if TYPE_CHECKING:
    from mpcc.pipeline import Optimized


@dataclass(frozen=True)
class Row:
    """A budget as it was given, its bundle, and what was made; None where it cannot be met, and then nothing was written."""

    budget: str
    place: Path
    made: Optimized | None


def check(**others: Any) -> None:
    """UsageError for options that belong to one answer."""
    given = [name.replace("_", "-") for name, value in others.items() if value is not None]
    if given:
        raise UsageError(f"several budgets cannot be combined with --{given[0]}", hint="Give one --budget, or none.")


def places(place: Path, budgets: Sequence[str] | None) -> list[Path]:
    """private.mpcc and 3s, 2s -> private-3s.mpcc, private-2s.mpcc. UsageError for two that are the same."""
    names = [re.sub(r"[^0-9A-Za-z.]", "", budget) for budget in budgets or ()]
    found = [place.with_name(f"{place.stem}-{name}{place.suffix}") for name in names]
    if len(set(found)) < len(found):
        raise UsageError("the same budget is given twice", where="--budget")
    return found


def made(
    captured: Any, budgets: Sequence[str], places: Sequence[Path], given: Mapping[str, Any], notes: Mapping[str, Any]
) -> list[Row]:
    """The bundles, written."""
    from mpcc.pipeline import optimize_within

    rows = []
    found = optimize_within(captured, budgets=budgets, **given)
    for budget, place, one in zip(budgets, places, found, strict=True):
        noted = one if one is None or not notes else replace(one, plan=replace(one.plan, notes={**one.plan.notes, **notes}))
        if noted is not None:
            noted.save(place)
        rows.append(Row(budget, place, noted))
    return rows


def show(rows: Sequence[Row], as_json: bool) -> None:
    """A row for each budget, or the documents of the bundles as a list. Exit code 1 where one cannot be met."""
    if as_json:
        from .optimize import document

        documents = [{} if row.made is None else document(row.made, row.place) for row in rows]
        emit([{"budget": row.budget, "met": bool(one), **one} for row, one in zip(rows, documents, strict=True)])
    else:
        console().print(_table(rows))
        console().print(_below(rows), highlight=False, soft_wrap=True)
        for row in rows:
            if row.made is not None and row.made.shortfall:
                console().print(f"WARNING: {row.place}: {row.made.shortfall}", highlight=False, markup=False, soft_wrap=True)
    if any(row.made is None for row in rows):
        raise typer.Exit(1)


def _table(rows: Sequence[Row]) -> Any:
    from rich.table import Table

    from mpcc.show.units import brief_seconds, count, size, small

    from .search import drop

    first = next((row.made for row in rows if row.made is not None), None)
    title = "No budget can be met" if first is None else f"One private inference on {first.estimate.network}, by budget"
    shown = Table(title=title, title_justify="left")
    for name in ("budget", "seconds", "rounds", "bytes", "loss", "drop", "bundle"):
        shown.add_column(name, justify="left" if name in ("budget", "bundle") else "right", overflow="fold")
    for row in rows:
        if row.made is None or row.made.chosen is None:
            shown.add_row(row.budget, "cannot be met", *[""] * 5)
            continue
        estimate, point = row.made.estimate, row.made.chosen.point
        shown.add_row(
            row.budget, brief_seconds(float(estimate.seconds)), count(float(estimate.rounds)), size(float(estimate.bytes)),
            small(point.loss), drop(row.made.chosen), str(row.place),
        )  # fmt: skip
    return shown


def _below(rows: Sequence[Row]) -> str:
    """What loss and drop are, and how to see more."""
    chosen = next((row.made.chosen for row in rows if row.made is not None and row.made.chosen is not None), None)
    if chosen is None:
        return "Try a looser budget, or --level structural."
    some = any(row.made is not None and row.made.chosen is not None and row.made.chosen.compensated for row in rows)
    how = "in float, structural plans compensated" if some else "in float"
    return (
        f"Loss: {chosen.metric.name}; drop: {chosen.metric.drop_name}; {how}, on {chosen.judged} inputs that chose no plan. "
        "What each bundle changes: report.html inside it."
    )
