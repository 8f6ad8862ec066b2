"""mpcc protocols: the parties of each protocol, whom they must trust, what runs it, and when to take it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import typer

from . import options
from .about import INSTALL_CRYPTEN
from .screen import console, emit

if TYPE_CHECKING:
    from mpcc.cost import Protocol

EPILOG = "Example: mpcc protocols --json"
WIDTH = 80
INSTALL_SPU = "pip install 'mpcc[spu]'"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("protocols", epilog=EPILOG)(protocols)


def protocols(as_json: options.AsJson = False) -> None:
    """List the protocols that plans are made for: who takes part, who must not collude, what runs them, when to take one."""
    from mpcc import registry

    found = registry.protocols().values()
    if as_json:
        emit([{key: getattr(one, key) for key in FIELDS} | {"compute": one.compute.source, "runs": runs(one)} for one in found])
        return
    from .tables import cards

    table = cards("Protocols", [(one.name, tuple(_lines(one))) for one in found])
    console().print(table, highlight=False, markup=False, width=WIDTH)


FIELDS = (
    "name", "title", "parties", "dealer", "adversary", "collusion", "correlations", "engine", "advice", "ring_bits", "executes",
    "source",
)  # fmt: skip


def runs(protocol: Protocol) -> bool | None:
    """Whether what runs it is installed here; None where nothing runs it."""
    if not protocol.engine:
        return None
    return find_spec("spu" if protocol.circuits else "crypten") is not None


def _lines(one: Protocol) -> Iterator[str]:
    yield one.title
    yield f"{one.parties} parties and {'a' if one.dealer else 'no'} dealer, {one.adversary}"
    if one.collusion:
        yield f"collusion: {one.collusion}"
    yield f"correlated randomness: {one.correlations}"
    known = runs(one)
    if known is None:
        yield "runs: nowhere; it has prices only"
    else:
        missing = "" if known else f" (not installed: {INSTALL_SPU if one.circuits else INSTALL_CRYPTEN})"
        yield f"runs: {one.engine}{missing}"
    if one.advice:
        yield f"advice: {one.advice}"
