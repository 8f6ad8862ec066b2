"""mpcc gpu: which GPUs parties can compute on, and the kernels for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .screen import console, emit, say

if TYPE_CHECKING:
    from torch import device as Place

EPILOG = (
    "Examples: mpcc gpu      (what is here; runs the start-up check of each GPU)\n\n"
    "mpcc gpu --build      (compile the kernels for the GPUs of this machine; needs nvcc, some 30 s)\n\n"
    "mpcc gpu --build --architecture sm_90      (for another machine: copy the file that it names)"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("gpu", epilog=EPILOG)(gpu)


def gpu(
    build: Annotated[bool, typer.Option("--build", help="Compile the kernels, where they are not built yet.")] = False,
    architecture: Annotated[
        str | None, typer.Option(metavar="sm_90", help="Compile for this kind of GPU instead of those that are here.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show the GPUs that `--device` can name, and whether their kernels are built and right; build them."""
    from mpcc.errors import CheckFailed, UsageError
    from mpcc.runtime.device import compiled

    if architecture is not None and not build:
        raise UsageError("--architecture says what --build compiles", hint="mpcc gpu --build --architecture sm_90")
    wanted = [architecture] if architecture else sorted({arch for _, arch in _here()}) if build else []
    if build and not wanted:
        raise UsageError("no GPU is visible here", where="--build", hint="For another machine: --architecture sm_90")
    made = {one: str(compiled.build(one)) for one in wanted}
    found = list(_devices())
    if as_json:
        emit({"nvcc": compiled.nvcc(), "built": compiled.built(), "files": made, "devices": found})
    else:
        _show(made, found)
    wrong = [one["name"] for one in found if one["checked"] is False]
    if wrong:
        raise CheckFailed(f"no party can compute on {', '.join(wrong)}", hint="The line of each says why.")


def _here() -> Iterator[tuple[Place, str]]:
    """The GPUs that torch sees, and the kind of each."""
    import torch

    for index in range(torch.cuda.device_count() if torch.version.cuda else 0):
        major, minor = torch.cuda.get_device_capability(index)
        yield torch.device("cuda", index), f"sm_{major}{minor}"


def _devices() -> Iterator[dict[str, Any]]:
    """Each GPU; one whose kernels are built is checked."""
    import torch

    from mpcc.errors import MpccError
    from mpcc.runtime.device import compiled
    from mpcc.runtime.device.card import device_of

    for place, architecture in _here():
        one: dict[str, Any] = {"name": str(place), "title": torch.cuda.get_device_name(place), "architecture": architecture}
        state, why = None, "the kernels are not built: mpcc gpu --build"
        if architecture in compiled.built():
            try:
                device_of(str(place))
                state, why = True, "every kernel gives the CPU's bits"
            except MpccError as error:
                state, why = False, str(error)
        yield one | {"checked": state, "state": why}


def _show(made: dict[str, str], found: list[dict[str, Any]]) -> None:
    from mpcc.runtime.device import compiled

    out = console()
    for architecture, path in made.items():
        say(f"kernels for {architecture}: {path}")
    out.print(f"nvcc: {compiled.nvcc() or 'not found'}", highlight=False, markup=False)
    out.print(f"kernels built for: {', '.join(compiled.built()) or 'nothing'}", highlight=False, markup=False)
    for one in found:
        text = f"{one['name']}: {one['title']} ({one['architecture']}), {one['state']}"
        out.print(text, highlight=False, markup=False)
    if not found:
        out.print("GPUs: none that torch can use", highlight=False, markup=False)
