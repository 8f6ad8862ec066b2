"""mpcc protocols: the parties and the trust model of each protocol, and the source of its prices."""

from __future__ import annotations

import typer

from . import options
from .screen import console, emit

EPILOG = "Example: mpcc protocols --json"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("protocols", epilog=EPILOG)(protocols)


def protocols(as_json: options.AsJson = False) -> None:
    """List the protocols that `profile` can price. `run` executes `mpcc`."""
    from mpcc import registry

    found = registry.protocols().values()
    fields = ("name", "title", "parties", "adversary", "correlations", "ring_bits", "executes", "source")
    if as_json:
        emit([{key: getattr(one, key) for key in fields} | {"compute": one.compute.source} for one in found])
        return
    from .tables import cards

    rows = [
        (
            one.name,
            (
                one.title,
                f"{one.parties} parties, {one.adversary}",
                f"correlated randomness: {one.correlations}",
                f"messages: {one.executes}",
                f"prices: {one.source}",
            ),
        )
        for one in found
    ]
    console().print(cards("Protocols", rows), highlight=False)
