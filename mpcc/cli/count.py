"""mpcc count: op counts, rounds and bytes of a model; with --check, a regression test for continuous integration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import commits, early, options
from .screen import console, emit, progress, say

if TYPE_CHECKING:
    from mpcc.cost import OpCounts, Regression
    from mpcc.search.target import Target

EPILOG = (
    "Examples: mpcc count model.onnx --write op-counts.json      (commit the file)\n\n"
    "mpcc count model.onnx --check op-counts.json      (exits with 1 and prints a table when a count increased)\n\n"
    "mpcc count model.onnx --diff former.mpcc      (what changed, in both directions)\n\n"
    "mpcc count model.onnx --diff git:HEAD~1      (since the last commit but one)"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("count", epilog=EPILOG)(count)


def count(
    model: options.Model,
    check: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Compare with these counts; exit with 1 if any of them increased.")
    ] = None,
    write: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the counts to this file.")] = None,
    diff: Annotated[
        str | None,
        typer.Option(
            metavar="OTHER",
            help="Print what differs from another model, bundle, or .json file of counts, or from a commit: git:HEAD~1 for "
            "MODEL as it was, git:main:op-counts.json for another file.",
        ),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print --diff as Markdown, for a comment on a pull request.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(metavar="0.05", min=0, help="Relative increase that --check accepts.")
    ] = 0.0,
    network: options.Network = "lan",
    machine: Annotated[
        str | None,
        typer.Option(
            metavar="MACHINE",
            help="Whose speed decides where spline gates pay: reference, this, or a file of `mpcc benchmark`. Default: this "
            "machine, as of `mpcc optimize`; with files of counts the reference, so that they are the same everywhere.",
        ),
    ] = None,
    calibration: options.Calibration = None,
    input_range: options.InputRange = None,
    input_shape: options.InputShape = None,
    size_limit: options.SizeLimit = 1.0,
    as_json: options.AsJson = False,
) -> None:
    """Count the primitives, rounds and bytes of one private inference, as `mpcc optimize` makes it without a budget."""
    from mpcc import files
    from mpcc.errors import CheckFailed, UsageError

    if check is not None and write is not None:
        raise UsageError("--check and --write cannot be combined")
    if markdown and diff is None:
        raise UsageError("--markdown is a form of --diff")
    if diff is not None and diff.startswith(commits.PREFIX):
        commits.path_of(diff, model)
    elif diff is not None and not diff.endswith(".json"):
        early.model(diff)
    early.model(model)
    early.inputs(calibration)
    early.written(write)
    options.network(network)

    from mpcc import pipeline
    from mpcc.cost.machine import REFERENCE
    from mpcc.search.target import Target

    from .model import source
    from .profile import executable_of

    stored = check or write or (diff or "").endswith(".json")
    target = Target(network=network, machine=machine or (REFERENCE if stored else None))
    pipeline.check_machine(target)
    before = None if check is None else _read(check)
    found, values = source(model, size_limit), options.input_range(input_range)
    with progress() as tell:
        tell("compile", 0, 1)
        counts = pipeline.count(executable_of(found, calibration, input_shape, values, target))
        tell("compile", 1, 1)
    regressions = [] if before is None else _regressions(counts, before, tolerance, str(check))
    if write is not None:
        files.write(write, counts.to_json())
    if diff is not None:
        with commits.committed(diff, model) as other:
            former = _other(other, calibration, values, input_shape, size_limit, target)
        _differences(counts, former, f"{diff} -> {model}", markdown, as_json)
    elif as_json:
        typer.echo(counts.to_json(), nl=False)
    else:
        show(counts)
    if regressions:
        from mpcc.cost import table_of_regressions

        from .screen import WIDTH

        if not as_json:
            console().print(table_of_regressions(regressions), width=WIDTH)
        raise CheckFailed(
            f"{len(regressions)} count(s) exceed the baseline, first: {regressions[0]}",
            where=str(check),
            hint=f"If this is intended, update the baseline: mpcc count {model} --write {check}",
        )
    if check is not None:
        say(f"no count exceeds {check}")
    if write is not None:
        say(f"wrote {write}")


def _other(
    text: str, calibration: Path | None, values: tuple[float, float] | None, input_shape: list[str] | None, size_limit: float,
    target: Target,
) -> OpCounts:  # fmt: skip
    """The counts in a .json file, or those of another model, compiled in the same way."""
    from mpcc import pipeline

    from .model import source
    from .profile import executable_of

    if text.endswith(".json"):
        return _read(Path(text))
    return pipeline.count(executable_of(source(text, size_limit), calibration, input_shape, values, target))


def _differences(counts: OpCounts, other: OpCounts, title: str, markdown: bool, as_json: bool) -> None:
    from mpcc.cost import markdown_of_changes, table_of_regressions

    changes = counts.changes(other)
    if as_json:
        emit([vars(one) for one in changes])
    elif markdown:
        typer.echo(markdown_of_changes(changes))
    else:
        console().print(table_of_regressions(changes, title))


def _regressions(counts: OpCounts, before: OpCounts, tolerance: float, file: str) -> list[Regression]:
    from mpcc.errors import UsageError

    try:
        return counts.compare(before, tolerance)
    except UsageError as error:
        raise UsageError(error.what, where=file, hint=error.hint) from error


def _read(path: Path) -> OpCounts:
    from mpcc.cost import OpCounts
    from mpcc.errors import UsageError

    if not path.is_file():
        raise UsageError(
            "no such file",
            where=str(path),
            hint="Write one with `mpcc count MODEL --write FILE` and commit it.",
        )
    return OpCounts.from_json(path.read_text(encoding="utf-8", errors="replace"), str(path))


def show(counts: OpCounts) -> None:
    """Print one row per primitive, and the totals of one inference."""
    from rich.table import Table

    from mpcc.show.units import size, small

    table = Table(title=f"Op counts, {counts.protocol}", title_justify="left")
    table.add_column("primitive")
    table.add_column("calls", justify="right")
    for name, calls in sorted(counts.primitives.items()):
        table.add_row(name, f"{calls:,}")
    out = console()
    out.print(table)
    out.print(f"online, one inference: {counts.rounds:,} rounds, {size(counts.bytes)}", highlight=False)
    if counts.failure_probability:
        out.print(f"failure probability <= {small(counts.failure_probability)}", highlight=False)
