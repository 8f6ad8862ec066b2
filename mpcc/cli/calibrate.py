"""mpcc calibrate: what local work takes on this machine, kept for all later predictions of seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .screen import console, emit, progress, say

if TYPE_CHECKING:
    from mpcc.cost.machine import Machine

EPILOG = (
    "Examples: mpcc calibrate\n\nmpcc calibrate --alone     (each party will have a machine like this one to itself)"
    "\n\nmpcc calibrate --show      (what was found last, without measuring)"
)
UNITS = {
    "per_kernel": "a kernel",
    "per_call": "a call of a torch operation",
    "per_element": "an element written",
    "per_mac": "a multiply-add in the ring",
    "per_round": "a round, besides the network's latency",
    "per_byte": "a byte sent, besides the network's bandwidth",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("calibrate", epilog=EPILOG)(calibrate)


def calibrate(
    show: Annotated[bool, typer.Option("--show", help="Print what was found last; measure nothing.")] = False,
    alone: Annotated[
        bool, typer.Option("--alone", help="Measure one party by itself; otherwise two share this machine.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure local work on this machine, so that predicted seconds are this machine's."""
    from mpcc.cost.machine import Machine
    from mpcc.errors import UsageError

    if show:
        found = Machine.read()
        if found is None:
            raise UsageError(
                "this machine has not been calibrated", where=str(Machine.file()), hint="run `mpcc calibrate`"
            )
    else:
        from mpcc.runtime.benchmark import measure

        with progress() as tell:
            found = measure(tell, alone=alone)
        found.write()
        say(f"written: {Machine.file()}")
    if as_json:
        emit(found.document())
    else:
        _show(found)


def _show(machine: Machine) -> None:
    from rich.table import Table

    from mpcc.cost.machine import sharing

    title = f"{machine.processor}, {sharing(machine.alone)}, one thread each, torch {machine.torch}, {machine.date}"
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    table.add_column("nanoseconds", justify="right")
    for name, unit in UNITS.items():
        nanoseconds = 1e9 * getattr(machine.compute, name)
        table.add_row(unit, f"{nanoseconds:,.0f}" if nanoseconds >= 100 else f"{nanoseconds:.3g}")
    out = console()
    out.print(table)
    if machine.errors:
        name, error = max(machine.errors.items(), key=lambda pair: abs(pair[1]))
        out.print(f"furthest from its measurement: {name}, {error:+.0%} at its worst size", highlight=False)
