"""mpcc profile --symbolic: rounds and bytes as formulas in a transformer's sizes, and their growth with its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from .screen import console, emit, progress

if TYPE_CHECKING:
    from mpcc.cost import Formulas

TIMES = (1, 2, 4, 8)
"""Tokens of the growth table, as multiples of the model's."""


def formulas(model: str, protocols: list[str] | None, input_shape: list[str] | None, *, as_json: bool) -> None:
    """Print the formulas of the protocols, by default of all with price tables. UsageError where a model has none."""
    from mpcc import registry
    from mpcc.cost import symbolic, uses
    from mpcc.errors import UsageError

    from .model import graph, source

    known = [one for one in registry.protocols().values() if not one.scheduled]
    chosen = [registry.protocol(name) for name in protocols] if protocols else known
    for protocol in chosen:
        if protocol.scheduled:
            raise UsageError(
                f"there are no formulas for {protocol.name}: its cost is read off the scheduled program",
                hint="leave --symbolic out, or name another protocol: mpcc protocols",
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

    from mpcc.cost.symbolic import NAMES
    from mpcc.show.units import count, size

    out = console()
    sizes = ", ".join(f"{name} = {value} ({NAMES[name]})" for name, value in found.sizes.items())
    out.print(f"{found.protocol}, online; here {sizes}", highlight=False)
    out.print(f"  rounds  {found.rounds}", highlight=False, soft_wrap=True)
    out.print(f"  bytes   {found.bytes}", highlight=False, soft_wrap=True)
    table = Table(title="As tokens grow and all else stays", title_justify="left")
    for name in ("tokens", "rounds", "bytes", "bytes, times those here"):
        table.add_column(name, justify="right")
    rows = found.growth(_tokens(found))
    for tokens, rounds, data in rows:
        table.add_row(f"{tokens:,}", count(rounds), size(data), f"{data / rows[0][2]:.3g}")
    out.print(table)
    typer.echo()
