"""mpcc run: private inference, on this machine or as one of the three parties on machines of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from . import early, options
from .screen import console, emit, progress, say

if TYPE_CHECKING:
    from torch import Tensor

    from mpcc.cost import Network

    from .predicted import Predicted

EPILOG = (
    "Examples: mpcc run model.mpcc --input image.npy --output logits.npy      (three processes on this machine)\n\n"
    "mpcc run model.mpcc --input image.npy --network 20ms,100MB/s      (the same over an emulated network)\n\n"
    "mpcc run model.mpcc --input image.npy --repeat 20 --json      (seconds of 20 inferences after one set-up)\n\n"
    "Three machines: mpcc run model.mpcc --party server --peers A:7000,B:7001,C:7002 --tls keys/server; "
    "likewise mpcc run model.mpcc/public --party dealer, and --party client with --input.\n\n"
    "Without a dealer at run time: mpcc run model.mpcc --party dealer --material dealt --repeat 100; then give each party "
    "its file: --party server --material server.material ...\n\n"
    "Under SPU, a bundle of `mpcc optimize --protocol aby3`: mpcc run model.mpcc --engine spu --input image.npy"
)
LARGEST_SHOWN = 20
SPU = "spu"
ENGINES = ("mpcc", SPU)


class Measured(Protocol):
    """One inference as it was measured: an executable's Run, or the Outcome of a party."""

    @property
    def outputs(self) -> Sequence[Tensor]: ...
    @property
    def rounds(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def seconds(self) -> float: ...


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run", epilog=EPILOG)(run)


def run(
    bundle: options.Bundle,
    inputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--input", metavar="x.npy", help="An input; repeat for a model of several, or give one .npz file of all. "
            "More rows are more inferences."
        ),
    ] = None,
    first: Annotated[int | None, typer.Option(metavar="N", min=1, help="Run the first N rows of the input only.")] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Run numbers of the calibrated range, to see the bundle run. They mean nothing.")
    ] = False,
    output: Annotated[Path | None, typer.Option(metavar="y.npy", help="Where the client's output goes.")] = None,
    network: Annotated[
        str | None, typer.Option(metavar="N", help=f"Emulate a network between the processes: {options.NETWORK_HELP}")
    ] = None,
    party: Annotated[
        str | None, typer.Option(metavar="server|client|dealer", help="The role of this process: the server owns the weights.")
    ] = None,
    peers: Annotated[
        str | None, typer.Option(metavar="HOST:PORT,...", help="Addresses of the server, the client and the dealer.")
    ] = None,
    tls: Annotated[Path | None, typer.Option(metavar="FOLDER", help="This party's folder of `mpcc keys`.")] = None,
    sessions: Annotated[
        int, typer.Option(metavar="N", min=0, help="How many sessions the server or the dealer serves; 0: until stopped.")
    ] = 1,
    material: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="The dealer writes files for --repeat inferences here; a party names its own file."
        ),
    ] = None,
    repeat: Annotated[
        int, typer.Option(metavar="N", min=1, help="Run every input N times in one session; the last answers are the output.")
    ] = 1,
    insecure_dealer: Annotated[
        bool, typer.Option("--insecure-dealer", help="Let the server act as the dealer: it can then read the INPUT.")
    ] = False,
    allow_weights: Annotated[
        bool, typer.Option("--allow-weights", help="Let client or dealer run from a folder that holds the weights.")
    ] = False,
    engine: Annotated[
        str, typer.Option(metavar="mpcc|spu", help="Who computes: mpcc, or SPU where the bundle was made for its protocols.")
    ] = "mpcc",
    spu_python: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The Python interpreter that has SPU, where this one has not.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse inputs unlike those of calibration before anything is sent (exit code 1).")
    ] = False,
    device: options.Device = "cpu",
    as_json: options.AsJson = False,
) -> None:
    """Run a bundle privately and open the answer to the client."""
    from mpcc import security
    from mpcc.errors import UsageError

    link = options.network(network)
    early.bundle(bundle)
    early.read(inputs or [], "--input")
    early.answer(output)
    options.device(device)
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}", where="--engine", hint=f"one of: {', '.join(ENGINES)}")
    if engine == SPU:
        if device != "cpu":
            raise UsageError("--device is for mpcc's own engine", where="--engine spu")
        if network is not None or material is not None:
            raise UsageError("--network and --material are for mpcc's own engine", where="--engine spu")
        if example and (inputs or party is not None):
            raise UsageError("--example is for one machine, and instead of --input")
        given = None if example else inputs or []
        done, predicted, found = _spu(bundle, given, party, peers, tls, repeat, strict, first, spu_python, insecure_dealer)
        if party in (None, "client"):
            finish(done, predicted, found, output, as_json, len(done) // repeat)
        if not as_json and party is None:
            typer.echo(security.ONE_MACHINE)
        return
    if spu_python is not None:
        raise UsageError("--spu-python needs --engine spu")
    if party is None:
        if peers is not None or tls is not None or material is not None:
            hint = "say which party this is: --party server, client or dealer"
            raise UsageError("--peers, --tls and --material need --party", hint=hint)
        if example and inputs:
            raise UsageError("--example cannot be combined with --input")
        given = None if example else _given(inputs)
        done, predicted, found = here(bundle, given, link, insecure_dealer, repeat, strict, first, device)
    else:
        from . import party as remote

        if example:
            raise UsageError("--example is for one machine; with --party, the client has an input of its own")
        if link is not None:
            raise UsageError("--network emulates a link on one machine; with --party the link is real")
        role = remote.role_of(party)
        if insecure_dealer:
            say(f"NOT PRIVATE: {security.INSECURE_DEALER}")
        asked = _given(inputs) if role == remote.CLIENT else _none(inputs, role)
        if not allow_weights:
            remote.check_public(bundle, role)
        if role == remote.DEALER and material is not None:
            remote.deal(bundle, material, repeat, device)
            return
        config = remote.configuration(
            role, peers, tls, sessions=sessions or None, insecure_dealer=insecure_dealer, material=material,
            device=device,
        )  # fmt: skip
        done, predicted, found = remote.take_part(bundle, config, asked, repeat, strict, first)
        if role != remote.CLIENT:
            return
    finish(done, predicted, found, output, as_json, len(done) // repeat)
    if not as_json and party is None:
        typer.echo(f"NOT PRIVATE: {security.INSECURE_DEALER}" if insecure_dealer else security.ONE_MACHINE)


def _spu(
    bundle: Path, inputs: list[Path] | None, party: str | None, peers: str | None, tls: Path | None, repeat: int,
    strict: bool, first: int | None, python: Path | None, insecure_dealer: bool,
) -> tuple[Sequence[Measured], Predicted, list[str]]:  # fmt: skip
    from mpcc.errors import UsageError

    from . import party as remote
    from . import spu

    if party is None:
        if peers is not None or tls is not None:
            raise UsageError("--peers and --tls need --party", hint="say which party this is: --party server, client or helper")
        return spu.here(bundle, None if inputs is None else _given(inputs), repeat, strict, first, python)
    place = spu.place_of(party, peers, tls)
    asked = _given(inputs) if party == remote.CLIENT else _none(inputs, party)
    remote.check_public(bundle, party)
    return spu.take_part(bundle, place, asked, repeat, strict, first, python, insecure_dealer)


def here(
    bundle: Path, inputs: list[Path] | None, link: Network | None, insecure_dealer: bool, repeat: int = 1,
    strict: bool = False, first: int | None = None, device: str = "cpu",
) -> tuple[Sequence[Measured], Predicted, list[str]]:  # fmt: skip
    """All three parties as processes of this machine; and what is unlike calibration. Without inputs, an example."""
    from mpcc.runtime.executable import Executable

    from . import predicted
    from .guard import asked_of

    executable = Executable.load(bundle)
    once, watch = asked_of(executable, inputs, strict, first)
    watch.inputs([executable.call(*call) for call in once])
    asked, done = once * repeat, []
    with progress() as tell:
        with executable.session(network=link, insecure_dealer=insecure_dealer, progress=tell, device=device) as session:
            for step, call in enumerate(asked):
                tell("inference", step, len(asked))
                done.append(session.run(*call))
    watch.outputs([one.opened for one in done[-len(once) :]])
    return done, predicted.on_device(predicted.here(executable.program, link), device), watch.found


def _given(inputs: list[Path] | None) -> list[Path]:
    from mpcc.errors import UsageError

    if not inputs:
        raise UsageError("no input given", hint="give one with --input x.npy")
    return inputs


def _none(inputs: list[Path] | None, role: str) -> list[Path]:
    from mpcc.errors import UsageError

    if inputs:
        raise UsageError(f"the {role} takes no input: it belongs to the client", hint="give it with --party client")
    return []


def finish(
    done: Sequence[Measured], predicted: Predicted, found: list[str], output: Path | None, as_json: bool, last: int
) -> None:
    """Write and print the `last` answers, joined along their first dimension, and what one inference took."""
    import torch

    from .tensors import write

    outputs = [torch.cat(list(column)) for column in zip(*(one.outputs for one in done[-last:]), strict=True)]
    if output is not None:
        write(output, outputs)
    verdict = predicted.verdict([one.seconds for one in done])
    if as_json:
        emit(document(outputs, done, predicted) | {"warnings": found})
    else:
        show(outputs, done, predicted, output)
    if verdict is not None:
        say(verdict)


def document(outputs: list[Tensor], done: Sequence[Measured], predicted: Predicted) -> dict[str, Any]:
    """The answers as JSON; counts are those of one inference."""
    return {
        "outputs": [value.tolist() for value in outputs],
        "inferences": len(done),
        "rounds": done[0].rounds,
        "bytes": done[0].bytes,
        "seconds": [one.seconds for one in done],
        "predicted": predicted.document(),
    }


def show(outputs: list[Tensor], done: Sequence[Measured], predicted: Predicted, output: Path | None) -> None:
    """The answers, and what one inference took."""
    from mpcc.show.units import count, duration, size

    from .predicted import typical

    out = console()
    for index, value in enumerate(outputs):
        name = "output" if len(outputs) == 1 else f"output {index}"
        if value.dim() == 2:
            out.print(f"{name}: top-1 {', '.join(str(int(i)) for i in value.argmax(1))}", highlight=False)
        if value.numel() <= LARGEST_SHOWN:
            out.print(f"{name}: {[round(float(v), 4) for v in value.flatten()]}", highlight=False)
    if output is not None:
        out.print(f"written: {output}", highlight=False)
    took = duration(typical([one.seconds for one in done]))
    seconds = "" if predicted.seconds is None else f", {duration(predicted.seconds)} on {predicted.of}"
    each = "measured" if len(done) == 1 else f"measured, each of {len(done)} inferences (seconds: without the first)"
    out.print(
        f"{each}: {count(done[0].rounds)} rounds, {size(done[0].bytes)}, {took}; "
        f"predicted: {count(predicted.rounds)} rounds, {size(predicted.bytes)}{seconds}",
        highlight=False,
    )
