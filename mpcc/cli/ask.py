"""mpcc ask: a thin client of `mpcc serve`. It imports no torch and takes no part in the protocol."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import early, options
from .screen import emit, say

if TYPE_CHECKING:
    from mpcc.client import Answer

EPILOG = (
    "Examples: mpcc ask https://a.example https://b.example image.png\n\n"
    "mpcc ask http://127.0.0.1:8000 http://127.0.0.1:8001 image.png      (against `mpcc serve BUNDLE` on this machine)"
)
SHOWN = 5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ask", epilog=EPILOG)(ask)


def ask(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="The address of the server; replicas separated by commas.")],
    helper: Annotated[str, typer.Argument(metavar="HELPER", help="The address of the helper, likewise.")],
    pictures: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Pictures, or .npy files in the model's own input shape.")
    ],
    server_authority: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Who signs the server's certificate. Default: as web browsers.")
    ] = None,
    helper_authority: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Who signs the helper's certificate.")
    ] = None,
    digest: Annotated[str | None, typer.Option(metavar="HEX", help="Refuse any other model than this one.")] = None,
    output: Annotated[Path | None, typer.Option(metavar="y.npy", help="Where the outputs of all pictures go.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse inputs unlike those of calibration.")] = False,
    prefix: Annotated[
        Path | None,
        typer.Option(metavar="prefix.onnx", help="Of a model with a public part: your copy of it. Default: fetch it."),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Allow http:// to other machines.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Ask a served model, without showing the picture to any of its servers."""
    from mpcc.client import Client

    early.read([*pictures, server_authority, helper_authority, prefix], "mpcc ask")
    early.answer(output)
    with Client(
        server.split(","), helper.split(","), server_authority=server_authority, helper_authority=helper_authority,
        digest=digest, strict=strict, allow_plain=plain, prefix=prefix,
    ) as client:  # fmt: skip
        answers = [client.predict(picture) for picture in pictures]
        noise = [value.noise for value in client.model.outputs]
    if output is not None:
        _write(output, answers)
    if as_json:
        emit([_document(picture, answer) for picture, answer in zip(pictures, answers, strict=True)])
        return
    for picture, answer in zip(pictures, answers, strict=True):
        _show(picture, answer, noise[0])


def _document(picture: Path, answer: Answer) -> dict[str, Any]:
    return {
        "input": str(picture),
        "label": answer.label,
        "top": answer.top,
        "outputs": [value.tolist() for value in answer.outputs],
        "seconds": answer.seconds,
        "warnings": list(answer.warnings),
    }


def _show(picture: Path, answer: Answer, noise: float) -> None:
    import numpy as np

    scores = answer.label  # of a model that answers with classes
    if answer.output.shape == answer.opened[0].shape:
        flat = answer.output.reshape(-1)
        best = np.argsort(-flat)[:SHOWN]
        named = [answer.labels[i] if i < len(answer.labels) else str(i) for i in best]
        scores = ", ".join(f"{name} {flat[i]:.3f}" for name, i in zip(named, best, strict=True))
    typer.echo(f"{picture}: {scores}   (noise of logits {noise:.2g}; {answer.seconds:.2f} s)")
    for line in answer.warnings:
        say(f"mpcc: warning: {line}")


def _write(path: Path, answers: list[Answer]) -> None:
    import numpy as np

    from mpcc import files

    held = io.BytesIO()
    np.save(held, np.stack([answer.output for answer in answers]).astype(np.float32), allow_pickle=False)
    files.write(path, held.getvalue(), private=True)
