"""mpcc benchmark: time local computation on this machine, and keep the result for predictions of seconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import early, options
from .screen import console, emit, progress, say

if TYPE_CHECKING:
    from mpcc.cost.machine import Machine

EPILOG = (
    "Examples: mpcc benchmark\n\nmpcc benchmark --alone     (for parties that each have a machine like this one to themselves)"
    "\n\nmpcc benchmark --show      (print the last result without measuring)"
    "\n\nmpcc benchmark --device cuda -o gpu.json      (for parties on a GPU; then `--machine gpu.json`)"
)
UNITS = {
    "per_kernel": "one kernel",
    "per_call": "one call of a torch operation",
    "per_element": "one element written",
    "per_mac": "one multiply-accumulate in the ring",
    "per_round": "one round, on top of the network's latency",
    "per_byte": "one byte sent, on top of the network's bandwidth",
}

Show = Annotated[bool, typer.Option("--show", help="Print the last result without measuring.")]
Alone = Annotated[
    bool, typer.Option("--alone", help="Measure one party on an otherwise idle machine; by default two parties share it.")
]


def register(app: typer.Typer) -> None:
    """Add the command, and its former name."""
    app.command("benchmark", epilog=EPILOG)(benchmark)
    app.command("calibrate", hidden=True)(calibrate)


def benchmark(
    show: Show = False,
    alone: Alone = False,
    device: options.Device = "cpu",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="gpu.json", help="With --device: the file for `--machine`.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Time local computation on this machine, so that predicted seconds are those of this machine."""
    from mpcc.cost.machine import Machine
    from mpcc.errors import UsageError

    if (device == "cpu") != (output is None):
        what = "figures of a device are kept in a file of their own" if output is None else "-o is for the figures of a device"
        raise UsageError(what, hint="mpcc benchmark --device cuda -o gpu.json, then --machine gpu.json")
    if output is not None:
        if show or alone:
            raise UsageError("--show and --alone are for this machine's own figures, not for --device")
        early.written(output)
        found = _of_device(device, output)
    elif show:
        kept = Machine.read()
        if kept is None:
            raise UsageError(
                "this machine has not been benchmarked", where=str(Machine.file()), hint="Run `mpcc benchmark` first."
            )
        found = kept
        if found.outdated:
            say(f"These figures no longer hold ({found.outdated}): the next prediction measures anew.")
    else:
        from mpcc.runtime.benchmark import measure

        with progress() as tell:
            found = measure(tell, alone=alone)
        found.write()
        say(f"wrote {Machine.file()}")
    if as_json:
        emit(found.document())
    else:
        _show(found)


def _of_device(device: str, output: Path) -> Machine:
    from mpcc.runtime.benchmark import measure_device
    from mpcc.runtime.device.card import device_of

    place = device_of(device)
    with progress() as tell:
        found = measure_device(place, tell)
    found.write(output)
    say(f"wrote {output}; predictions for parties on it: --machine {output}")
    return found


def calibrate(show: Show = False, alone: Alone = False, as_json: options.AsJson = False) -> None:
    """The former name of `mpcc benchmark`."""
    say("`mpcc calibrate` is now called `mpcc benchmark`; the old name will be removed.")
    benchmark(show, alone, as_json=as_json)


def _show(machine: Machine) -> None:
    from rich.table import Table

    from mpcc.cost.machine import sharing

    title = f"{machine.processor}, {sharing(machine.alone)}, one thread each, torch {machine.torch}, {machine.date}"
    table = Table(title=title, title_justify="left")
    table.add_column("time for")
    table.add_column("nanoseconds", justify="right")
    for name, unit in UNITS.items():
        nanoseconds = 1e9 * getattr(machine.compute, name)
        table.add_row(unit, f"{nanoseconds:,.0f}" if nanoseconds >= 100 else f"{nanoseconds:.3g}")
    out = console()
    out.print(table)
    if machine.errors:
        name, error = max(machine.errors.items(), key=lambda pair: abs(pair[1]))
        out.print(f"largest error of the fit: {name}, {error:+.0%} at its worst size", highlight=False)
