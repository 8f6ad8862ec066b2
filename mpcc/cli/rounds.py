"""mpcc profile --rounds: the static schedule, round by round, and the dealer's work."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from .screen import console, emit

if TYPE_CHECKING:
    from mpcc.program import Program
    from mpcc.runtime.executable import Executable


def rounds(executable: Executable, *, as_json: bool) -> None:
    """Print which openings travel in which message, how large it is, and what the dealer provides."""
    if as_json:
        emit(document(executable.program))
    else:
        show(executable.program)


def document(program: Program) -> dict[str, Any]:
    """The schedule as JSON; bytes of a round are what each party sends."""
    from mpcc.program import listing

    return {
        "cost": asdict(program.cost),
        "failure_probability": program.failure_probability,
        "rounds": [asdict(row) for row in listing.rounds(program)],
        "dealer": [asdict(row) for row in listing.dealt(program)],
    }


def show(program: Program) -> None:
    from rich.table import Table

    from mpcc.program import listing
    from mpcc.show.units import count, size

    out, cost = console(), program.cost
    table = Table(title="Rounds: one message each way, receives posted beforehand", title_justify="left")
    for name in ("round", "each party sends"):
        table.add_column(name, justify="right")
    table.add_column("openings: site, primitive, values x bits", overflow="fold")
    for row in listing.rounds(program):
        what = "\n".join(f"{s.site} {s.primitive} {s.values:,} x {s.bits}" for s in row.sent)
        table.add_row(str(row.number), size(row.bytes), what)
    out.print(table)
    work = Table(title="The dealer's work for it, before the input is known", title_justify="left")
    work.add_column("what")
    work.add_column("phase")
    for name in ("tensors", "from seeds", "sent to party 1"):
        work.add_column(name, justify="right")
    for kind in listing.dealt(program):
        cells = (size(8 * kind.seeded_words), size(8 * kind.travelling_words))
        work.add_row(kind.kind, kind.phase, f"{kind.tensors:,}", *cells)
    out.print(work)
    out.print(
        f"online: {count(cost.rounds)} rounds, {size(cost.bytes)} (both directions); set-up, once a model: "
        f"{count(cost.setup_rounds)} rounds, {size(cost.setup_bytes)}; from the dealer: {size(cost.dealer_bytes)} an "
        f"inference; failure probability {program.failure_probability:.1e}",
        highlight=False,
    )
    typer.echo()
