"""mpcc verify: float, approximated, fixed-point and private outputs side by side; where errors enter; inputs out of range."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import early, options
from .screen import Tell, console, emit, progress, say

if TYPE_CHECKING:
    from torch import Tensor

    from mpcc.calibration import RangeViolation
    from mpcc.runtime.executable import Executable
    from mpcc.verify import Finding
    from mpcc.verify.verification import SiteError, Verification

EPILOG = "Example: mpcc verify model.mpcc --calibration images.npy --count 4"

Call = tuple["Tensor", ...]
NEAR = 4.0
"""Standard deviations of the noise on a difference of two outputs by which these may change places: 3 in 100,000 are beyond."""


@dataclass(frozen=True)
class Difference:
    """How far two ways of computing the same outputs differ, over `inputs` calls."""

    what: str
    inputs: int
    largest: float
    mean: float
    same_top1: float


@dataclass(frozen=True)
class Noise:
    """What the outputs are flooded with, on purpose: its standard deviation, and of how many inputs it decided the top-1, since
    in fixed point the top-1 is the plain model's and the private one is within NEAR of it. `hidden`: see `Program.hidden`."""

    deviation: float
    ties: int
    hidden: int | None


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", epilog=EPILOG)(verify)


def verify(
    bundle: options.Bundle,
    calibration: options.Calibration = None,
    count: Annotated[int, typer.Option(metavar="N", min=1, help="Number of inputs to run privately.")] = 4,
    tolerance: Annotated[
        float | None, typer.Option(metavar="0.02", min=0, help="Exit with 1 if plain and private outputs differ by more.")
    ] = None,
    ranges: Annotated[
        bool, typer.Option("--ranges", help="Also analyse the range of every value: overflow, lost constants, windows.")
    ] = False,
    device: options.Device = "cpu",
    as_json: options.AsJson = False,
) -> None:
    """Compare float, approximated, fixed-point and private outputs, and show which error enters at which site.

    Exits with 1 if a top-1 differs by more than the noise on the outputs explains, --tolerance is exceeded, or inputs of yours
    are outside the plan's valid ranges: their outputs cannot be trusted, and during a private run nobody can detect this, because
    the values are secret.
    """
    from mpcc.errors import CheckFailed

    early.bundle(bundle)
    early.inputs(calibration)
    options.device(device)

    from mpcc.bundle import open_bundle
    from mpcc.runtime.executable import Executable
    from mpcc.verify import findings

    opened = open_bundle(bundle)
    executable = Executable.of(opened)
    with progress() as tell:
        from mpcc.verify.verification import Verification

        inputs = [executable.call(*call) for call in _calls(executable, calibration)]
        executable = executable.private_part
        found = Verification(executable, inputs[:count])
        rows, noise = differences(found, tell, device)
        lines = found.site_errors()
        everywhere = Verification(executable, inputs)
        outside = everywhere.outside()
        risks = findings(everywhere.model, everywhere.graph, inputs) if ranges else []
    if as_json:
        emit(
            {
                "calibrated": calibration is not None,
                "differences": [asdict(one) for one in rows],
                "noise": asdict(noise),
                "sites": [asdict(one) for one in lines],
                "inputs_looked_at": len(inputs),
                "outside": [asdict(one) for one in outside],
                "trusted": calibration is not None and not outside,
                "ranges": [asdict(one) for one in risks],
            }
        )
    else:
        if found.in_place:
            say("The weights were made for this plan, so the plain model has the plan's structural choices in place.")
        _show(rows)
        _show_noise(noise)
        _show_sites(lines)
        _show_outside(outside, len(inputs), calibration is not None)
        if ranges:
            _show_ranges(risks)
    if calibration is None:
        say("The inputs are synthetic, made from the model: they say little about real ones. Give real ones with --calibration.")
    private = rows[-1]
    if tolerance is not None and private.largest > tolerance:
        raise CheckFailed(f"{private.what}: the largest difference, {private.largest:.3g}, exceeds {tolerance:g}")
    wrong = round((1 - private.same_top1) * private.inputs) - noise.ties
    if wrong > 0 and calibration is not None:
        raise CheckFailed(f"{private.what}: the top-1 differs on {wrong} of {private.inputs} inputs")
    if outside and calibration is not None:
        raise CheckFailed(
            f"{len(outside)} valid range(s) of the plan are left by these inputs, so their outputs are not to be trusted",
            where=str(calibration),
            hint="Make the bundle again, calibrated with inputs like these.",
        )


def differences(found: Verification, tell: Tell, device: str = "cpu") -> tuple[list[Difference], Noise]:
    """The difference of each stage from the one before it, and of the last from the first; what of that is noise.

    `device`: where the emulation and the parties compute."""
    import torch

    fixed, private = [], []
    with torch.no_grad(), found.executable.session(device=device) as session:
        expected, approximated = found.plain(), found.approximated()
        for step, call in enumerate(found.calls):
            tell("verify", step, len(found.calls))
            fixed.append(_first(found.executable.emulate(*call, check=False, device=device)))
            private.append(session.run(*call).outputs[0])
    tell("verify", len(found.calls), len(found.calls))
    rows = [
        _difference("approximated vs. plain", approximated, expected),
        _difference("fixed point vs. approximated", fixed, approximated),
        _difference("private vs. fixed point", private, fixed),
        _difference("private vs. plain", private, expected),
    ]
    program = found.executable.program
    deviation = program.flood[0]
    return rows, Noise(deviation, _ties(expected, fixed, private, deviation), program.hidden)


def _ties(expected: Iterable[Tensor], fixed: Iterable[Tensor], private: Iterable[Tensor], deviation: float) -> int:
    """How many inputs (the first dimension of outputs) have a private top-1 that is another because of the noise alone."""
    import torch

    plain, exact, noisy = (torch.cat([t.detach() for t in one]).flatten(1).double() for one in (expected, fixed, private))
    best, picked = plain.argmax(1, keepdim=True), noisy.argmax(1, keepdim=True)
    other = (picked != best) & (exact.argmax(1, keepdim=True) == best)
    gap = exact.gather(1, best) - exact.gather(1, picked)
    return int((other & (gap <= NEAR * math.sqrt(2) * deviation)).sum())


def _first(outputs: Any) -> Tensor:
    found: Tensor = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
    return found


def _difference(what: str, found: Iterable[Tensor], expected: Iterable[Tensor]) -> Difference:
    import torch

    left, right = torch.cat([t.detach() for t in found]), torch.cat([t.detach() for t in expected])
    gap = (left - right).abs()
    same = (left.flatten(1).argmax(1) == right.flatten(1).argmax(1)).float().mean()
    return Difference(what, len(left), float(gap.max()), float(gap.mean()), float(same))


def _calls(executable: Executable, calibration: Any) -> list[Call]:
    from mpcc.calibration import calls, load_calibration
    from mpcc.calibration.synthetic import synthesise
    from mpcc.errors import BundleError

    graph = executable.reference
    if graph is None:
        raise BundleError("the bundle has no float model to compare with", hint="Create it again with `mpcc optimize`.")
    if executable.local is not None:
        graph = executable.local.module
    if calibration is None:
        return synthesise(graph).judging()
    found = load_calibration(calibration, executable.input_shapes, names=executable.input_names)
    return [tuple(call) for call in calls(graph, found)]


def _show(found: list[Difference]) -> None:
    from rich.table import Table

    from mpcc.show.units import small

    table = Table(title=f"{found[0].inputs} input(s)", title_justify="left")
    table.add_column("")
    for name in ("largest difference", "mean difference", "same top-1"):
        table.add_column(name, justify="right")
    for one in found:
        table.add_row(one.what, small(one.largest), small(one.mean), f"{one.same_top1:.1%}")
    console().print(table)


def _show_noise(noise: Noise) -> None:
    from mpcc import security
    from mpcc.show.units import small

    if noise.deviation:
        what = f"Private outputs carry noise of standard deviation {small(noise.deviation)}."
        ties = f" It decided the top-1 of {noise.ties} input(s), whose two largest outputs are that close." if noise.ties else ""
        say(what + ties)
    say(security.hides(noise.hidden))


def _show_sites(lines: list[SiteError]) -> None:
    from rich.table import Table

    from mpcc.show.units import small

    table = Table(title="Where errors enter (largest absolute errors)", title_justify="left")
    for name in ("site", "approximation"):
        table.add_column(name, overflow="fold")
    for name in ("magnitude", "approximation", "declared bound", "fixed point, accumulated"):
        table.add_column(name, justify="right")
    for one in lines:
        declared = "-" if one.declared is None else small(one.declared)
        table.add_row(one.site, one.approximation, small(one.size), small(one.own), declared, _fixed(one))
    console().print(table)


def _fixed(one: SiteError) -> str:
    """The accumulated error; of a site whose result is no value of the program, where it was measured, or why it was not."""
    from mpcc.show.units import small

    if one.fixed is None:
        return one.merged
    return f"{small(one.fixed)} (merged into {one.merged})" if one.merged else small(one.fixed)


def _show_outside(outside: list[RangeViolation], looked_at: int, given: bool) -> None:
    if not outside:
        say(f"All {looked_at} inputs are within the plan's valid ranges.")
        return
    what = "NOT TRUSTWORTHY: some of the" if given else "Some of the synthetic"
    say(f"{what} {looked_at} inputs leave the plan's valid ranges:")
    for one in outside:
        say(f"  {one}")
    say("  Calibrate with inputs like these. During a private run nobody can detect this, because the values are secret.")


def _show_ranges(risks: list[Finding]) -> None:
    if not risks:
        say("Ranges: no problems found.")
    for one in risks:
        say(f"{one}")
