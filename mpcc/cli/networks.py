"""mpcc networks: the presets of --network, and the syntax for any other network."""

from __future__ import annotations

import typer

from . import options
from .screen import console, emit

EPILOG = "Any other network: --network RTT,BANDWIDTH, e.g. 20ms,100MB/s or 5ms,1Gb/s"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("networks", epilog=EPILOG)(networks)


def networks(as_json: options.AsJson = False) -> None:
    """List the networks that --network accepts by name."""
    from mpcc.cost import NETWORKS

    if as_json:
        emit([vars(one) for one in NETWORKS.values()])
        return
    from rich.table import Table

    table = Table(title="Networks", title_justify="left", caption=EPILOG, caption_justify="left")
    for column in ("name", "round trip", "bandwidth per direction", "source"):
        table.add_column(column, overflow="fold")
    for one in NETWORKS.values():
        table.add_row(one.name, f"{one.rtt_seconds * 1e3:g} ms", f"{one.bandwidth / 1e6:g} MB/s", one.source)
    console().print(table)
