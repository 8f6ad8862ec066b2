"""mpcc profile: where the rounds, bytes and seconds of one private inference go; protocols and networks side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from . import early, options
from .screen import Tell, console, emit, progress, say

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from mpcc.cost import Estimate, Network
    from mpcc.runtime.executable import Executable
    from mpcc.runtime.this_machine import Speed
    from mpcc.search.target import Target

    from .model import Source

EPILOG = (
    "Examples: mpcc profile model.onnx --network wan\n\n"
    "mpcc profile model.onnx --protocol mpcc,crypten-stock,cheetah --network lan,wan,20ms,100MB/s -o profile.png\n\n"
    "mpcc profile model.onnx --symbolic --protocol semi2k      (formulas, and their growth with tokens)"
    "\n\nmpcc profile model.onnx --rounds      (the schedule round by round, and the dealer's work)"
)
PHASES = {"online": "online", "setup": "set-up, once per model", "offline": "before the input"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("profile", epilog=EPILOG)(profile)


def profile(
    model: options.Model,
    protocol: Annotated[
        list[str] | None,
        typer.Option(metavar="P,P...", help="Protocols to compare, from `mpcc protocols`. [default: mpcc, or a bundle's own]"),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(metavar="N,N...", help=f"Networks to compare: {options.NETWORK_HELP} [default: lan]"),
    ] = None,
    machine: options.Machine = None,
    by: Annotated[str, typer.Option(metavar="site|kind|layer", help="What the rows of the first table stand for.")] = "site",
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture", "-o", metavar="FILE", help="Plot seconds by layer, and cost against tokens: .png, .svg or .pdf."
        ),
    ] = None,
    calibration: options.Calibration = None,
    input_range: options.InputRange = None,
    input_shape: options.InputShape = None,
    size_limit: options.SizeLimit = 1.0,
    symbolic: Annotated[
        bool, typer.Option("--symbolic", help="Print rounds and bytes as formulas in tokens, width, heads and layers.")
    ] = False,
    rounds: Annotated[
        bool, typer.Option("--rounds", help="Print the schedule: what is sent in each round, and the dealer's work.")
    ] = False,
    price_per_gb: Annotated[
        float | None,
        typer.Option("--price-per-gb", metavar="0.09", min=0, help="Also say what the traffic of 1,000 inferences costs."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Predict what one private inference costs, and where the time goes."""
    from mpcc.cost import Network
    from mpcc.errors import UsageError

    if by not in ("site", "kind", "layer"):
        raise UsageError(f"unknown kind of row {by!r}", where="--by", hint="One of: site, kind, layer.")
    links = _unique([link for text in network or ["lan"] for link in Network.parse_list(text)])
    names = _unique([name.strip() for text in protocol or [] for name in text.split(",")])
    early.model(model)
    early.inputs(calibration)
    early.written(picture)

    from mpcc import registry
    from mpcc.cost.machine import REFERENCE
    from mpcc.runtime import this_machine
    from mpcc.search.target import PROTOCOL, Target

    from .model import source

    if symbolic:
        from .formulas import formulas

        if picture is not None:
            raise UsageError("--picture cannot be combined with --symbolic")
        formulas(model, names, input_shape, as_json=as_json)
        return
    values = options.input_range(input_range)
    if rounds:
        from .rounds import rounds as schedule

        if not all(registry.protocol(name).scheduled for name in names):
            raise UsageError(f"only {PROTOCOL} has a schedule", where="--rounds", hint="Omit --protocol.")
        if picture is not None:
            raise UsageError("--picture cannot be combined with --rounds")
        this_machine.check(machine)
        target = Target(network=links[0], machine=machine)
        schedule(executable_of(source(model, size_limit), calibration, input_shape, values, target), as_json=as_json)
        return
    if picture is not None:
        from mpcc.show.curves import drawable

        drawable(picture)
    names = names or [_own_protocol(model)]
    this_machine.check(machine)
    whose = machine if any(registry.protocol(name).scheduled for name in names) else REFERENCE
    with progress() as tell, this_machine.speed_of(whose) as speed:
        given = source(model, size_limit)
        found = estimates(given, names, links, speed, calibration, input_shape, tell, values)
        if picture is not None:
            _draw(found, given, names, links[0], input_shape, picture)
    if as_json:
        emit([_document(estimate) for estimate in found])
    else:
        show(found, by)
        said = _unique([traffic(one, price_per_gb) for one in found])
        for line in [*said, *what_rows_are(found, given.bundle is not None)]:
            console().print(line, highlight=False)
    if picture is not None:
        say(f"wrote {picture}")


def _own_protocol(model: str) -> str:
    """The protocol that a bundle's plan was made for; of a model, mpcc's own."""
    from mpcc import registry
    from mpcc.bundle import open_bundle
    from mpcc.search.target import PROTOCOL

    if not Path(model).is_dir():
        return PROTOCOL
    noted = open_bundle(Path(model), weights=False).plan.notes.get("protocol", PROTOCOL)
    return str(registry.protocol(str(noted)).name)


def _draw(
    found: list[Estimate], given: Source, names: list[str], link: Network, input_shape: list[str] | None, picture: Path
) -> None:
    from mpcc import registry
    from mpcc.show.curves import curves, draw

    from .model import graph

    tables = [one for one in map(registry.protocol, names) if not one.scheduled]
    draw(found, curves(graph(given, input_shape), tables, link) if tables else [], picture)


THOUSAND = 1_000
T = TypeVar("T")


def _unique(given: list[T]) -> list[T]:
    return list(dict.fromkeys(given))


def estimates(
    given: Source,
    protocols: list[str],
    links: list[Network],
    speed: Speed,
    calibration: Any,
    input_shape: list[str] | None,
    tell: Tell,
    values: tuple[float, float] | None = None,
) -> list[Estimate]:
    """One estimate per protocol and network, grouped by protocol. The model is compiled at most once, for the first network."""
    from mpcc import registry
    from mpcc.cost import Use, estimate_uses, uses
    from mpcc.cost.machine import REFERENCE
    from mpcc.search.program_cost import program_estimate
    from mpcc.search.target import Target

    chosen = list({one.name: one for one in map(registry.protocol, protocols)}.values())  # a former name is the same protocol
    used: list[Use] | None = None
    executable: Executable | None = None
    found: list[Estimate] = []
    for step, one in enumerate(chosen):
        tell("estimate", step, len(chosen))
        if one.scheduled:
            machine = speed()
            target = Target(network=links[0], machine=machine or REFERENCE)
            executable = executable or executable_of(given, calibration, input_shape, values, target)
            compute = one.compute if machine is None else machine.compute
            found += [program_estimate(executable.program, one, link, compute) for link in links]
        else:
            used = used or uses(_priced(given, input_shape))
            found += [estimate_uses(used, one, link) for link in links]
    tell("estimate", len(chosen), len(chosen))
    return found


def _priced(given: Source, input_shape: list[str] | None) -> GraphModule:
    """What a price table is applied to: a model as it is, a bundle with its plan."""
    from mpcc import pipeline

    from .model import graph

    made = None if given.bundle is None else pipeline.load(given.bundle)
    if made is None or made.reference is None or made.local is not None:
        return graph(given, input_shape)
    return pipeline.mpc_graph(made.reference, made.plan)


def what_rows_are(found: list[Estimate], bundle: bool) -> list[str]:
    """What the rows of protocols stand for, where they do not all cost the same."""
    from mpcc import registry

    scheduled = _unique([one.protocol for one in found if registry.protocol(one.protocol).scheduled])
    tables = _unique([one.protocol for one in found if not registry.protocol(one.protocol).scheduled])
    if not scheduled or not tables:
        return []
    ours, others = " and ".join(scheduled), ", ".join(tables)
    if bundle:
        return [f"{ours}: the program of this bundle. {others}: its plan, by price tables; a plan made for them is another."]
    return [f"{ours}: the model rewritten, as without a budget. {others}: the model as it is, by price tables."]


def executable_of(
    given: Any, calibration: Any, input_shape: list[str] | None, values: tuple[float, float] | None = None,
    target: Target | None = None,
) -> Executable:  # fmt: skip
    """The executable of a bundle, or of a model as `mpcc optimize` makes it for the target without a budget."""
    from mpcc import pipeline
    from mpcc.runtime.executable import Executable

    from .model import graph

    if given.bundle is not None:
        return pipeline.load(given.bundle)
    made = pipeline.compile(graph(given, input_shape), target=target, calibration=calibration, input_range=values)
    assert isinstance(made, Executable)
    return made


def _document(estimate: Estimate) -> Any:
    import json

    return json.loads(estimate.to_json())


def traffic(estimate: Estimate, price_per_gb: float | None) -> str:
    """What 1,000 inferences send, of the parties together and from the dealer, and what that costs at a price per 10^9 bytes."""
    from mpcc.show.units import brief

    online, dealt = (THOUSAND * float(phase.bytes) for phase in (estimate.phases()["online"], estimate.offline))
    text = f"{estimate.protocol}, 1,000 inferences: {brief(online)} between the parties, {brief(dealt)} before the inputs"
    if price_per_gb is None:
        return f"{text}."
    price = price_per_gb * (online + dealt) / 1e9
    written = f"{price:,.2f}" if price >= 0.1 else f"{price:.2g}"
    return f"{text}: {written} at {price_per_gb:g} per GB."


def show(found: list[Estimate], by: str) -> None:
    """Print the first estimate in full, then the phases of all of them side by side, and who is trusted in each protocol."""
    from rich.table import Table

    from mpcc import registry
    from mpcc.show.units import count, duration, size

    from .tables import machine as machine_line

    out = console()
    out.print(found[0].table(by))
    if by == "site":
        out.print(found[0].table("kind"))
    many = len(found) > 1
    table = Table(title="Side by side" if many else "By phase", title_justify="left", show_lines=many)
    for name in ("protocol", "network", "phase"):
        table.add_column(name, overflow="fold")
    for name in ("rounds", "bytes", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for estimate in found:
        phases = [(name, cost) for name, cost in estimate.phases().items() if name == "online" or cost.bytes or cost.rounds]
        columns = (
            [PHASES[name] for name, _ in phases],
            [count(cost.rounds) for _, cost in phases],
            [size(cost.bytes) for _, cost in phases],
            [duration(cost.seconds) for _, cost in phases],
        )
        table.add_row(estimate.protocol, estimate.network, *("\n".join(column) for column in columns))
    out.print(table)
    for line in _unique([f"{one.protocol}: {machine_line(one)}" if many else machine_line(one) for one in found]):
        out.print(line, highlight=False)
    if not many:
        return
    trust = Table.grid(padding=(0, 2))
    for name in _unique([estimate.protocol for estimate in found]):
        one = registry.protocol(name)
        who = f"{one.parties} parties, {one.adversary}; correlated randomness: {one.correlations}"
        trust.add_row(name, who)
    out.print(trust, highlight=False)
