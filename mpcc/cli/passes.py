"""mpcc passes: the passes and approximations that are installed, each with its source, and the order in which passes run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .screen import console, emit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

EPILOG = "Examples: mpcc passes --json\n\nmpcc passes --order"
COLUMNS = ("name", "level", "summary", "source")
LEVELS = ("nn", "mpc")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("passes", epilog=EPILOG)(passes)


def passes(
    order: Annotated[bool, typer.Option("--order", help="Show the order in which the passes run, on both graph levels.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """List the passes (exact rewrites of a graph) and the approximations (what a site can become)."""
    from mpcc import registry
    from mpcc.approximate import LEVELS as DEPTHS

    if order:
        _order(as_json)
        return
    rewrites = list(registry.passes().values())
    choices = sorted(registry.approximations().values(), key=lambda one: (one.operator, DEPTHS.index(one.level), one.name))
    if as_json:
        emit({"passes": _rows(rewrites, "graph"), "approximations": _rows(choices, "operator")})
        return
    from .tables import cards

    for title, first, found in (
        ("Approximations: what an operator can become", "operator", choices),
        ("Passes: rewrites of the whole graph", "graph", rewrites),
    ):
        rows = [
            (row["name"], (f"{row[first]}, {row['level']}: {row['summary']}", f"source: {row['source']}"))
            for row in _rows(found, first)
        ]
        console().print(cards(title, rows), highlight=False, markup=False)


def _order(as_json: bool) -> None:
    from mpcc import registry

    found = {level: registry.pass_order(level) for level in LEVELS}
    if as_json:
        emit({"order": {level: [{"name": p.name, "after": list(p.after)} for p in row] for level, row in found.items()}})
        return
    table = _table("Passes run in this order, over and over until none changes the graph", "graph", "", "name", "runs after")
    for level, row in found.items():
        for place, one in enumerate(row, 1):
            table.add_row(level, str(place), one.name, ", ".join(one.after))
    console().print(table)


def _rows(plugins: Sequence[Any], first: str) -> list[dict[str, Any]]:
    return [{key: getattr(one, key) for key in (first, *COLUMNS)} for one in plugins]


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
