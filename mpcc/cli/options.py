"""The arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="x.onnx, x.pt2, a bundle folder, or package.module:function (or file.py:function) that returns "
        "(module, example_inputs).",
    ),
]
Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder that `mpcc optimize` wrote.")]
Calibration = Annotated[
    Path | None,
    typer.Option(metavar="FILE|DIR", help="Real inputs: .npy, .npz or a folder. Without them: random noise."),
]
InputShape = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=1,3,224,224", help="The shape of an input whose shape is dynamic; repeat for each."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of tables.")]
NETWORK_HELP = "lan, wan, or RTT,BANDWIDTH such as 20ms,100MB/s."
Network = Annotated[str, typer.Option(metavar="N", help=NETWORK_HELP)]
Machine = Annotated[
    str | None,
    typer.Option(
        metavar="M",
        help="Whose local work predicted seconds contain: reference, this, or a file of `mpcc calibrate`. "
        "Default: this where it was measured, else reference.",
    ),
]
Protocol = Annotated[str, typer.Option(metavar="P", help="See `mpcc protocols`.")]
