"""mpcc passes: the rewrites and the approximations that there are, each with its source."""

from __future__ import annotations

import typer

from . import options
from .screen import console, emit

EPILOG = "Example: mpcc passes --json"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("passes", epilog=EPILOG)(passes)


def passes(as_json: options.AsJson = False) -> None:
    """List the passes (exact rewrites of a graph) and the approximations (what a site can become)."""
    from mpcc import registry
    from mpcc.approximate import LEVELS

    rewrites = list(registry.passes().values())
    choices = sorted(
        registry.approximations().values(), key=lambda one: (one.operator, LEVELS.index(one.level), one.name)
    )
    if as_json:
        names = ("name", "level", "summary", "source")
        emit(
            {
                "passes": [{"graph": one.graph} | {key: getattr(one, key) for key in names} for one in rewrites],
                "approximations": [
                    {"operator": one.operator} | {key: getattr(one, key) for key in names} for one in choices
                ],
            }
        )
        return
    from rich.table import Table

    for title, first, found in (
        ("Approximations: what an operator can become", "operator", choices),
        ("Passes: rewrites of the whole graph", "graph", rewrites),
    ):
        table = Table(title=title, title_justify="left")
        for column in (first, "name", "level", "what it does", "source"):
            table.add_column(column, overflow="fold")
        for one in found:
            table.add_row(str(getattr(one, first)), one.name, one.level, one.summary, one.source)
        console().print(table)
