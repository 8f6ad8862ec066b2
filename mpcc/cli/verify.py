"""mpcc verify: the same inputs in float, approximated, in fixed point and privately; where the error enters; what is outside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .screen import Tell, console, emit, progress, say

if TYPE_CHECKING:
    from torch import Tensor

    from mpcc.calibration import RangeViolation
    from mpcc.runtime.executable import Executable
    from mpcc.verify import Finding
    from mpcc.verify.verification import SiteError, Verification

EPILOG = "Example: mpcc verify model.mpcc --calibration images.npy --count 4"

Call = tuple["Tensor", ...]


@dataclass(frozen=True)
class Difference:
    """Two ways to compute the same outputs, over `inputs` calls."""

    what: str
    inputs: int
    largest: float
    mean: float
    same_top1: float


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", epilog=EPILOG)(verify)


def verify(
    bundle: options.Bundle,
    calibration: options.Calibration = None,
    count: Annotated[int, typer.Option(metavar="N", min=1, help="How many inputs to run privately.")] = 4,
    tolerance: Annotated[
        float | None, typer.Option(metavar="0.02", min=0, help="Fail (exit 1) when plain and private differ by more.")
    ] = None,
    ranges: Annotated[
        bool, typer.Option("--ranges", help="Also look at every value's range: overflow, lost constants, windows ...")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Compare float, approximated, fixed-point and private answers, and show at which site what error enters.

    Exit 1 when a top-1 differs or --tolerance is exceeded. Inputs that leave the range on which the plan holds are
    reported: their answers cannot be trusted, and when parties run nobody sees it, because the values are secret.
    """
    from mpcc.bundle import open_bundle
    from mpcc.errors import CheckFailed
    from mpcc.verify import findings

    opened = open_bundle(bundle)
    executable = Executable.of(opened)
    with progress() as tell:
        from mpcc.verify.verification import Verification

        inputs = _calls(executable, calibration)
        found = Verification(executable, inputs[:count])
        rows = differences(found, tell)
        lines = found.site_errors()
        everywhere = Verification(executable, inputs)
        outside = everywhere.outside()
        risks = findings(everywhere.model, everywhere.graph, inputs) if ranges else []
    if as_json:
        emit(
            {
                "calibrated": calibration is not None,
                "differences": [asdict(one) for one in rows],
                "sites": [asdict(one) for one in lines],
                "inputs_looked_at": len(inputs),
                "outside": [asdict(one) for one in outside],
                "trusted": calibration is not None and not outside,
                "ranges": [asdict(one) for one in risks],
            }
        )
    else:
        _show(rows)
        _show_sites(lines)
        _show_outside(outside, len(inputs))
        if ranges:
            _show_ranges(risks)
    if calibration is None:
        say("These inputs are SYNTHETIC (random noise). Give real ones with --calibration.")
    private = rows[-1]
    if tolerance is not None and private.largest > tolerance:
        raise CheckFailed(f"{private.what}: the largest difference is {private.largest:.3g}, more than {tolerance:g}")
    if private.same_top1 < 1 and calibration is not None:
        raise CheckFailed(f"{private.what}: another top-1 on {1 - private.same_top1:.0%} of {private.inputs} inputs")


def differences(found: Verification, tell: Tell) -> list[Difference]:
    """Each stage against the one before it, and the last against the first."""
    import torch

    fixed, private = [], []
    with torch.no_grad(), found.executable.session() as session:
        expected, approximated = found.plain(), found.approximated()
        for step, call in enumerate(found.calls):
            tell("verify", step, len(found.calls))
            fixed.append(_first(found.executable.emulate(*call, check=False)))
            private.append(session.run(*call).outputs[0])
    tell("verify", len(found.calls), len(found.calls))
    return [
        _difference("approximated against plain", approximated, expected),
        _difference("fixed point against approximated", fixed, approximated),
        _difference("private against fixed point", private, fixed),
        _difference("private against plain", private, expected),
    ]


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
    from mpcc.calibration import calls, load_calibration, synthetic_inputs
    from mpcc.errors import BundleError

    shapes = executable.input_shapes
    inputs = synthetic_inputs(shapes) if calibration is None else load_calibration(calibration, shapes)
    if executable.reference is None:
        raise BundleError("this bundle has no model to compare with", hint="Make it again with `mpcc optimize`.")
    return [tuple(call) for call in calls(executable.reference, inputs)]


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


def _show_sites(lines: list[SiteError]) -> None:
    from rich.table import Table

    from mpcc.show.units import small

    table = Table(title="Where the error enters (largest absolute errors)", title_justify="left")
    for name in ("site", "approximation"):
        table.add_column(name, overflow="fold")
    for name in ("size", "approximation's own", "declared", "fixed point, so far"):
        table.add_column(name, justify="right")
    for one in lines:
        declared = "-" if one.declared is None else small(one.declared)
        fixed = "-" if one.fixed is None else small(one.fixed)
        table.add_row(one.site, one.approximation, small(one.size), small(one.own), declared, fixed)
    console().print(table)


def _show_outside(outside: list[RangeViolation], looked_at: int) -> None:
    if not outside:
        say(f"All {looked_at} inputs stay in the range on which the plan holds.")
        return
    say(f"NOT TO BE TRUSTED: of {looked_at} inputs some leave the range on which the plan holds:")
    for one in outside:
        say(f"  {one}")
    say("  Calibrate with inputs like these. When parties run, nobody sees this: the values are secret.")


def _show_ranges(risks: list[Finding]) -> None:
    if not risks:
        say("Ranges: nothing found.")
    for one in risks:
        say(f"{one}")
