"""mpcc verify: the same inputs in plain float, in fixed point and privately, and how far apart the answers are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .screen import Tell, console, emit, progress, say

if TYPE_CHECKING:
    from torch import Tensor

    from mpcc.executable import Executable

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
    as_json: options.AsJson = False,
) -> None:
    """Compare plain, fixed-point and private answers. Exit 1 when a top-1 differs or --tolerance is exceeded."""
    from mpcc.bundle import open_bundle
    from mpcc.errors import CheckFailed

    opened = open_bundle(bundle)
    executable = opened.executable()
    with progress() as tell:
        from mpcc.pipeline import capture

        plain = capture(opened.model)
        calls = _calls(plain, executable, calibration, count)
        found = differences(plain, executable, calls, tell)
    if as_json:
        emit({"calibrated": calibration is not None, "differences": [asdict(one) for one in found]})
    else:
        _show(found)
    if calibration is None:
        say("These inputs are SYNTHETIC (random noise). Give real ones with --calibration.")
    private = found[-1]
    if tolerance is not None and private.largest > tolerance:
        raise CheckFailed(f"{private.what}: the largest difference is {private.largest:.3g}, more than {tolerance:g}")
    if private.same_top1 < 1 and calibration is not None:
        raise CheckFailed(f"{private.what}: another top-1 on {1 - private.same_top1:.0%} of {private.inputs} inputs")


def differences(plain: Callable[..., Any], executable: Executable, calls: list[Call], tell: Tell) -> list[Difference]:
    """Fixed point against plain, private against fixed point, private against plain."""
    import torch

    expected, fixed, private = [], [], []
    with torch.no_grad(), executable.session() as session:
        for step, call in enumerate(calls):
            tell("verify", step, len(calls))
            expected.append(_first(plain(*call)))
            fixed.append(_first(executable.emulate(*call)))
            private.append(session.run(*call).outputs[0])
    tell("verify", len(calls), len(calls))
    return [
        _difference("fixed point against plain", fixed, expected),
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


def _calls(plain: Any, executable: Executable, calibration: Any, count: int) -> list[Call]:
    from mpcc.search import calls, load_calibration, synthetic_inputs

    shapes = executable.input_shapes
    inputs = synthetic_inputs(shapes) if calibration is None else load_calibration(calibration, shapes)
    return [tuple(call) for call in list(calls(plain, inputs))[:count]]


def _show(found: list[Difference]) -> None:
    from rich.table import Table

    from mpcc.bundle.units import small

    table = Table(title=f"{found[0].inputs} input(s)", title_justify="left")
    table.add_column("")
    for name in ("largest difference", "mean difference", "same top-1"):
        table.add_column(name, justify="right")
    for one in found:
        table.add_row(one.what, small(one.largest), small(one.mean), f"{one.same_top1:.1%}")
    console().print(table)
