"""mpcc profile --symbolic: rounds and bytes as formulas in the dimensions of a transformer, and how they grow with tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from .screen import console, emit, progress

if TYPE_CHECKING:
    from mpcc.cost import Formulas

TIMES = (1, 2, 4, 8)
"""Token counts of the growth table, as multiples of the model's own."""


def formulas(model: str, protocols: list[str] | None, input_shape: list[str] | None, *, as_json: bool) -> None:
    """Print the formulas of the named protocols (default: all that have price tables). UsageError if the model has none."""
    from mpcc import registry
    from mpcc.cost import symbolic, uses
    from mpcc.errors import UsageError

    from .model import graph, source

    known = [one for one in registry.protocols().values() if not one.scheduled]
    chosen = [registry.protocol(name) for name in protocols] if protocols else known
    for protocol in chosen:
        if protocol.scheduled:
            raise UsageError(
                f"{protocol.name} has no formulas: its cost is read off the scheduled program",
                hint="Omit --symbolic, or name another protocol (see `mpcc protocols`).",
            )
    with progress() as tell:
        tell("capture", 0, 1)
        found = uses(graph(source(model), input_shape))
        tell("capture", 1, 1)
    made = [symbolic(found, protocol) for protocol in chosen]
    if as_json:
        emit([_document(one) for one in made])
        return
    for one in made:
        _show(one)


def _tokens(found: Formulas) -> list[int]:
    return [factor * found.sizes["n"] for factor in TIMES]


def _document(found: Formulas) -> dict[str, object]:
    return {
        "protocol": found.protocol,
        "sizes": dict(found.sizes),
        "rounds": str(found.rounds),
        "bytes": str(found.bytes),
        "growth": [dict(zip(("tokens", "rounds", "bytes"), row, strict=True)) for row in found.growth(_tokens(found))],
    }


def _show(found: Formulas) -> None:
    from rich.table import Table

    from mpcc.cost.formulas import NAMES
    from mpcc.show.units import count, size

    out = console()
    sizes = ", ".join(f"{name} = {value} ({NAMES[name]})" for name, value in found.sizes.items())
    out.print(f"{found.protocol}, online phase; in this model {sizes}", highlight=False)
    out.print(f"  rounds  {found.rounds}", highlight=False, soft_wrap=True)
    out.print(f"  bytes   {found.bytes}", highlight=False, soft_wrap=True)
    table = Table(title="Growth with the number of tokens, all else equal", title_justify="left")
    for name in ("tokens", "rounds", "bytes", "bytes relative to this model"):
        table.add_column(name, justify="right")
    rows = found.growth(_tokens(found))
    for tokens, rounds, data in rows:
        table.add_row(f"{tokens:,}", count(rounds), size(data), f"{data / rows[0][2]:.3g}")
    out.print(table)
    typer.echo()
