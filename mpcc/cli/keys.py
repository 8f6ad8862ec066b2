"""mpcc keys: certificates with which the parties know each other over TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options

EPILOG = "Example: mpcc keys keys      (then give each party its own folder: keys/server, keys/client, keys/dealer)"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("keys", epilog=EPILOG)(keys)


def keys(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the three sets of files.")],
    as_json: options.AsJson = False,
) -> None:
    """Make an authority and a certificate for each of server, client and dealer."""
    raise NotImplementedError
