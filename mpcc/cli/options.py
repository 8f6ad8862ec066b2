"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mpcc.cost import Network as Link

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A .onnx or .pt2 file, a bundle folder, or package.module:function (or file.py:function) that returns "
        "(module, example_inputs). Files are only read; a function is Python code and is run.",
    ),
]
Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle folder written by `mpcc optimize`.")]
Calibration = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|DIR",
        help="Representative inputs: .npy, .npz or an image folder. Without any, inputs are made from the model.",
    ),
]
InputRange = Annotated[
    str | None,
    typer.Option(metavar="LOW,HIGH", help="Smallest and largest value of an input, where none are given: 0,1 or -2.1,2.6."),
]
InputShape = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=1,3,224,224", help="Shape of an input that the model leaves dynamic; may be repeated."),
]
SizeLimit = Annotated[
    float,
    typer.Option(metavar="TIMES", min=1, help="Accept model files this many times as large as usual (20,000 nodes, 8 GiB)."),
]
Public = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Parameters that everybody may know: 'backbone.*', 'blocks.0-9.*', or frozen (those that do not train, and are no "
        "adapter's). What depends on them and the input alone is computed by the client, for nothing; may be repeated.",
    ),
]
Fix = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Make an input a constant of this compilation: a number for all its elements, or a .npy file; may be repeated.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of tables.")]
NETWORK_HELP = "lan, wan, or RTT,BANDWIDTH, e.g. 20ms,100MB/s."
Network = Annotated[str, typer.Option(metavar="NETWORK", help=NETWORK_HELP)]
Machine = Annotated[
    str | None,
    typer.Option(
        metavar="MACHINE",
        help="Whose speed predicted seconds assume: reference, this, or a file of `mpcc benchmark`. "
        "Default: this machine, which is measured once (4 s). Name one where the same plan is wanted everywhere, as in CI.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1,
        help="Run sweeps in so many processes; the plan is the same whatever their number. [default: threads on all cores]",
        show_default=False,
    ),
]
Backend = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Where these processes run: loky (this machine), ray or dask (a cluster). [default: loky]",
        show_default=False,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="cpu|cuda|cuda:1",
        help="Where this process computes. A GPU gives the same bits, so each role may choose."
    ),
]
Protocol = Annotated[str, typer.Option(metavar="PROTOCOL", help="One of those that `mpcc protocols` lists.")]


def device(name: str) -> None:
    """UsageError, MissingDependency for a device that is not here; its kernels are built before anybody waits for them."""
    if name != "cpu":
        from mpcc.runtime.device.card import ready

        ready(name)


def budget(text: str | None) -> None:
    """UsageError for a budget that cannot be read."""
    from mpcc.cost import Budget

    if text is not None:
        Budget.parse(text)


def network(text: str | None) -> Link | None:
    """UsageError for a network that cannot be read."""
    from mpcc.cost import Network

    return None if text is None else Network.parse(text)


def input_range(text: str | None) -> tuple[float, float] | None:
    """(0.0, 1.0) of "0,1"."""
    from mpcc.errors import UsageError

    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not -float("inf") < low < high < float("inf"):
        raise UsageError(f"invalid range {text!r}", where="--input-range", hint="Give two numbers, e.g. 0,1 or -2.1,2.6.")
    return low, high
