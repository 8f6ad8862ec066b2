"""mpcc profile: where the rounds, bytes and seconds of one private inference go; several protocols side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .screen import Tell, console, emit, progress

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from mpcc.cost import Estimate, Network
    from mpcc.executable import Executable

EPILOG = (
    "Examples: mpcc profile model.onnx --network wan\n\n"
    "mpcc profile model.onnx --protocol crypten --protocol crypten-stock --protocol cheetah --network lan --network wan"
    "\n\nmpcc profile model.onnx --symbolic --protocol semi2k      (formulas, and how they grow with the tokens)"
    "\n\nmpcc profile model.onnx --rounds      (the schedule, round by round, and the dealer's work)"
)
PROGRAM = "crypten"
"""The protocol whose cost is read off the scheduled program; the others have price tables."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("profile", epilog=EPILOG)(profile)


def profile(
    model: options.Model,
    protocol: Annotated[
        list[str] | None, typer.Option(metavar="P", help="See `mpcc protocols`; repeat to compare. [default: crypten]")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(metavar="N", help=f"{options.NETWORK_HELP} Repeat to compare. [default: lan]")
    ] = None,
    by: Annotated[str, typer.Option(metavar="site|kind|layer", help="What a row of the first table is.")] = "site",
    calibration: options.Calibration = None,
    input_shape: options.InputShape = None,
    symbolic: Annotated[
        bool, typer.Option("--symbolic", help="Rounds and bytes as formulas in tokens, width, heads, layers.")
    ] = False,
    rounds: Annotated[
        bool, typer.Option("--rounds", help="The schedule: what travels in each round, and the dealer's work.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Predict what one private inference costs, and where the time goes."""
    from mpcc.cost import Network
    from mpcc.errors import UsageError

    if by not in ("site", "kind", "layer"):
        raise UsageError(f"{by!r} is no kind of row", where="--by", hint="one of: site, kind, layer")
    links = [Network.parse(text) for text in network or ["lan"]]
    if symbolic:
        from .formulas import formulas

        formulas(model, protocol, input_shape, as_json=as_json)
        return
    if rounds:
        if protocol not in (None, [PROGRAM]):
            raise UsageError(f"only {PROGRAM} has a schedule", where="--rounds", hint="leave --protocol out")
        from .model import source
        from .rounds import rounds as schedule

        schedule(executable_of(source(model), calibration, input_shape), as_json=as_json)
        return
    with progress() as tell:
        found = estimates(model, protocol or [PROGRAM], links, calibration, input_shape, tell)
    if as_json:
        emit([_document(estimate) for estimate in found])
    else:
        show(found, by)


def estimates(
    model: str, protocols: list[str], links: list[Network], calibration: Any, input_shape: list[str] | None, tell: Tell
) -> list[Estimate]:
    """One estimate for each protocol on each network, protocols together. The model is compiled at most once."""
    from mpcc import pipeline, registry
    from mpcc.predict import program_estimate

    from .model import Source, graph, source

    chosen = [registry.protocol(name) for name in protocols]
    given: Source = source(model)
    captured: GraphModule | None = None
    executable: Executable | None = None
    found: list[Estimate] = []
    for step, one in enumerate(chosen):
        tell("estimate", step, len(chosen))
        if one.name == PROGRAM:
            executable = executable or executable_of(given, calibration, input_shape)
            found += [program_estimate(executable.program, one, link) for link in links]
        else:
            captured = captured or graph(given, input_shape)
            found += [pipeline.estimate(captured, protocol=one.name, network=link) for link in links]
    tell("estimate", len(chosen), len(chosen))
    return found


def executable_of(given: Any, calibration: Any, input_shape: list[str] | None) -> Executable:
    """The program of a bundle, or that of a model compiled without a budget."""
    from mpcc import pipeline
    from mpcc.executable import Executable

    from .model import graph

    if given.bundle is not None:
        return pipeline.load(given.bundle)
    made = pipeline.compile(graph(given, input_shape), calibration=calibration)
    assert isinstance(made, Executable)
    return made


def _document(estimate: Estimate) -> Any:
    import json

    return json.loads(estimate.to_json())


def show(found: list[Estimate], by: str) -> None:
    """The first estimate in full, its kinds, and all of them side by side."""
    from rich.table import Table

    from mpcc import registry
    from mpcc.bundle.units import count, duration, size

    out = console()
    out.print(found[0].table(by))
    if by == "site":
        out.print(found[0].table("kind"))
    if len(found) == 1:
        return
    table = Table(title="Side by side, online", title_justify="left")
    for name in ("protocol", "network"):
        table.add_column(name)
    for name in ("rounds", "bytes", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("trust", overflow="fold")
    for estimate in found:
        protocol = registry.protocol(estimate.protocol)
        trust = f"{protocol.parties} parties, {protocol.adversary}; correlations: {protocol.correlations}"
        cells = (count(estimate.rounds), size(estimate.bytes), duration(estimate.seconds))
        table.add_row(estimate.protocol, estimate.network, *cells, trust)
    out.print(table)
