"""mpcc keys: certificates with which server, helper, clients and dealer prove their roles to each other over TLS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .screen import emit, say

if TYPE_CHECKING:
    from mpcc.runtime.net.authority import Authority

EPILOG = (
    "Examples: mpcc keys keys      (then give each party its own folder: keys/server, keys/client, keys/dealer)\n\n"
    "mpcc keys keys --authority ca      (the same, and keep the authority in ca, offline, to make or revoke clients later)\n\n"
    "mpcc keys --authority ca --client alice      (one more client, with a key of its own, in the folder alice)\n\n"
    "mpcc keys --authority ca --revoke alice      (then copy ca/revoked.txt into the folders of server and dealer)"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("keys", epilog=EPILOG)(keys)


def keys(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="A new folder; with --client the name is the default.")
    ] = None,
    days: Annotated[int, typer.Option(metavar="N", min=1, max=3650, help="How long the certificates are valid.")] = 365,
    authority: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the authority is kept; made if it is not there.")
    ] = None,
    client: Annotated[str | None, typer.Option(metavar="NAME", help="Make a certificate of one more client.")] = None,
    revoke: Annotated[
        str | None, typer.Option(metavar="NAME", help="Put this client, or a serial number, on the list of the revoked.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Make certificates for server, client, dealer and helper, or for one more client; or revoke one."""
    from mpcc.errors import UsageError
    from mpcc.runtime.net.authority import Authority, make, make_client

    if authority is None and (client is not None or revoke is not None):
        raise UsageError("--client and --revoke need the authority", hint="--authority FOLDER, as given to `mpcc keys` before")
    if revoke is not None:
        if folder is not None or client is not None:
            raise UsageError("--revoke makes no certificates: leave FOLDER and --client out")
        assert authority is not None
        _revoke(Authority.read(authority), revoke, as_json)
        return
    if client is not None:
        assert authority is not None
        made = make_client(folder or Path(client), client, days, Authority.read(authority))
    else:
        if folder is None:
            raise UsageError("no folder given", hint="mpcc keys FOLDER")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError("something is there already; keys are never overwritten", where=str(folder))
        made = make(folder, days, None if authority is None else _kept(authority))
    if as_json:
        emit({role: str(place) for role, place in made.items()})
        return
    for role, place in made.items():
        typer.echo(f"{role}: {place}   (for the {role}'s machine alone)")
    if authority is not None:
        typer.echo(f"authority: {authority}   (keep it offline: its key makes certificates of any role)")


def _revoke(authority: Authority, which: str, as_json: bool) -> None:
    path = authority.revoke(which)
    if as_json:
        emit({"revoked": which, "list": str(path)})
    else:
        say(f"{path}: copy it into the folders of the server and the dealer; they read it at every handshake")


def _kept(folder: Path) -> Authority:
    """The authority of a folder, made where there is none."""
    from mpcc.runtime.net.authority import Authority

    return Authority.read(folder) if folder.exists() else Authority.made(folder)
