"""mpcc run: one private inference, on this machine or as one of the three parties on machines of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .screen import console, emit, progress, say

if TYPE_CHECKING:
    from torch import Tensor

    from mpcc.executable import Executable, Run
    from mpcc.schedule.program import Cost

EPILOG = (
    "Examples: mpcc run model.mpcc --input image.npy --output logits.npy      (three processes on this machine)\n\n"
    "mpcc run model.mpcc --input image.npy --network 20ms,100MB/s      (the same over an emulated network)\n\n"
    "On three machines: mpcc run model.mpcc --party 0|1|dealer --peers owner:7000,client:7001,dealer:7002 --tls keys"
)
LARGEST_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run", epilog=EPILOG)(run)


def run(
    bundle: options.Bundle,
    inputs: Annotated[
        list[Path] | None, typer.Option("--input", metavar="x.npy", help="An input; repeat, in order, for several.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="y.npy", help="Where the client's output goes.")] = None,
    network: Annotated[
        str | None, typer.Option(metavar="N", help=f"Emulate a network between the processes: {options.NETWORK_HELP}")
    ] = None,
    insecure_dealer: Annotated[
        bool, typer.Option("--insecure-dealer", help="The dealer inside a party, which can then read EVERYTHING.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Run a bundle privately and open the answer to the client."""
    from mpcc import security
    from mpcc.bundle import load
    from mpcc.cost import Network
    from mpcc.errors import UsageError

    link = None if network is None else Network.parse(network)
    if not inputs:
        raise UsageError("there is no input", hint="give one with --input x.npy")
    executable = load(bundle)
    values = read_inputs(executable, inputs)
    if insecure_dealer:
        say(f"NOT PRIVATE: {security.INSECURE_DEALER}")
    with progress() as tell:
        with executable.session(network=link, insecure_dealer=insecure_dealer, progress=tell) as session:
            done = session.run(*values)
    if output is not None:
        from .tensors import write

        write(output, done.outputs)
    if as_json:
        emit(document(done, executable.program.cost))
    else:
        show(done, executable.program.cost, output, insecure_dealer)


def read_inputs(executable: Executable, paths: list[Path]) -> list[Tensor]:
    """One tensor a file, each of the shape that the program takes."""
    from mpcc.errors import ShapeError

    from .tensors import read

    shapes = executable.input_shapes
    if len(paths) != len(shapes):
        wanted = ", ".join(str(shape) for shape in shapes)
        raise ShapeError(f"the program takes {len(shapes)} input(s) of shape {wanted}; {len(paths)} were given")
    return [read(path, shape) for path, shape in zip(paths, shapes, strict=True)]


def document(done: Run, predicted: Cost) -> dict[str, Any]:
    """The answer as JSON."""
    return {
        "outputs": [value.tolist() for value in done.outputs],
        "rounds": done.rounds,
        "bytes": done.bytes,
        "seconds": done.seconds,
        "predicted": {"rounds": predicted.rounds, "bytes": predicted.bytes},
    }


def show(done: Run, predicted: Cost, output: Path | None, insecure_dealer: bool) -> None:
    """The answer, what it took, and who could have seen what."""
    from mpcc import security
    from mpcc.bundle.units import count, duration, size

    out = console()
    for index, value in enumerate(done.outputs):
        name = "output" if len(done.outputs) == 1 else f"output {index}"
        if value.dim() == 2:
            out.print(f"{name}: top-1 {', '.join(str(int(i)) for i in value.argmax(1))}", highlight=False)
        if value.numel() <= LARGEST_SHOWN:
            out.print(f"{name}: {[round(float(v), 4) for v in value.flatten()]}", highlight=False)
    if output is not None:
        out.print(f"written: {output}", highlight=False)
    out.print(
        f"measured: {count(done.rounds)} rounds, {size(done.bytes)}, {duration(done.seconds)}; "
        f"predicted: {count(predicted.rounds)} rounds, {size(predicted.bytes)}",
        highlight=False,
    )
    out.print(f"NOT PRIVATE: {security.INSECURE_DEALER}" if insecure_dealer else security.ONE_MACHINE, highlight=False)
