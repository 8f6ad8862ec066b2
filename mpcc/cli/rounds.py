"""mpcc profile --rounds: the static schedule round by round, and the dealer's work."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from .screen import console, emit

if TYPE_CHECKING:
    from mpcc.program import Program
    from mpcc.runtime.executable import Executable


def rounds(executable: Executable, *, as_json: bool) -> None:
    """Print which values are opened in each round, the size of its messages, and what the dealer provides."""
    if as_json:
        emit(document(executable.program))
    else:
        show(executable.program)


def document(program: Program) -> dict[str, Any]:
    """The schedule as JSON."""
    from mpcc.program import listing

    return {
        "cost": asdict(program.cost),
        "failure_probability": program.failure_probability,
        "rounds": [asdict(row) for row in listing.rounds(program)],
        "dealer": [asdict(row) for row in listing.dealt(program)],
    }


def _alone(sender: str) -> str:
    return "" if sender == "both" else f" ({sender})"


def show(program: Program) -> None:
    from rich.table import Table

    from mpcc.program import listing
    from mpcc.show.units import count, size

    out, cost = console(), program.cost
    table = Table(title="Rounds: one message in each direction, receives posted in advance", title_justify="left")
    for name in ("round", "server sends", "client sends"):
        table.add_column(name, justify="right")
    table.add_column("opened: site, primitive, values x bits (who alone sends)", overflow="fold")
    for row in listing.rounds(program):
        what = "\n".join(f"{s.site} {s.primitive} {s.values:,} x {s.bits}{_alone(s.sender)}" for s in row.sent)
        table.add_row(str(row.number), size(row.server_bytes), size(row.client_bytes), what)
    out.print(table)
    work = Table(title="Correlated randomness from the dealer, ready before the input", title_justify="left")
    work.add_column("kind")
    work.add_column("phase")
    for name in ("tensors", "expanded from seeds", "sent to the parties"):
        work.add_column(name, justify="right")
    for kind in listing.dealt(program):
        cells = (size(8 * kind.seeded_words), size(8 * kind.travelling_words))
        work.add_row(kind.kind, kind.phase, f"{kind.tensors:,}", *cells)
    out.print(work)
    out.print(
        f"online: {count(cost.rounds)} rounds, {size(cost.bytes)} (both directions); set-up, once per model: "
        f"{count(cost.setup_rounds)} rounds, {size(cost.setup_bytes)}; from the dealer: {size(cost.dealer_bytes)} per "
        f"inference; from the client to the server before the input: {size(cost.ahead_bytes)}; "
        f"failure probability <= {program.failure_probability:.1e}",
        highlight=False,
    )
    typer.echo()
