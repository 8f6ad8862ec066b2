"""mpcc run --party: this machine is the owner, the client or the dealer, and meets the others over the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mpcc.errors import UsageError

from .screen import say

if TYPE_CHECKING:
    from mpcc.program.program import Cost
    from mpcc.runtime.session.participant import Report
    from mpcc.runtime.session.session import Outcome

SERVER, CLIENT, DEALER = "server", "client", "dealer"
NAMES = {"0": SERVER, "1": CLIENT, "dealer": DEALER}
PEERS = "--peers host:port,host:port,host:port, of party 0, party 1 and the dealer"


@dataclass(frozen=True)
class Place:
    """Who this is, where the others are, and how it proves itself."""

    role: str
    peers: Mapping[str, tuple[str, int]]
    tls: Path | None
    sessions: int | None
    insecure_dealer: bool
    material: Path | None = None
    repeat: int = 1


def role_of(text: str) -> str:
    """`server` of 0, `client` of 1; UsageError for anything else."""
    if text not in NAMES:
        raise UsageError(f"there is no party {text!r}", where="--party", hint="0 (the owner), 1 (the client) or dealer")
    return NAMES[text]


def addresses(text: str | None) -> Mapping[str, tuple[str, int]]:
    """The addresses of the three, by role."""
    from mpcc.runtime.session.standalone import parse_peers

    if text is None:
        raise UsageError("--party needs the others' addresses", hint=PEERS)
    return parse_peers(text)


def take_part(bundle: Path, place: Place, inputs: list[Path]) -> tuple[list[Outcome], Cost]:
    """A session in one role. Only the owner reads the weights; client and dealer need the public files alone."""
    from mpcc.bundle import open_bundle
    from mpcc.runtime.net.wire import Identity
    from mpcc.runtime.session.standalone import run_party

    from .tensors import calls

    opened = open_bundle(bundle, weights=place.role == SERVER)
    shapes = [tuple(node.meta["val"].shape) for node in opened.program.inputs()]
    outcomes = run_party(
        opened.program,
        opened.manifest.model_version,
        place.role,
        place.peers,
        identity=None if place.tls is None else Identity.of(place.tls, place.role),
        inputs=calls(inputs, shapes) * place.repeat if inputs else (),
        insecure_dealer=place.insecure_dealer,
        material=place.material,
        sessions=place.sessions,
        report=_served,
        notice=say,
    )
    return outcomes, opened.program.cost


def deal(bundle: Path, folder: Path, count: int) -> None:
    """The dealer's work into files, one a party, for `count` inferences; it is not needed later."""
    from mpcc.bundle import open_bundle
    from mpcc.runtime.dealer.files import deal_to_files

    opened = open_bundle(bundle, weights=False)
    for role, path in deal_to_files(opened.program, opened.manifest.model_version, folder, count).items():
        say(f"{path}: for the {role} alone, over a private way; whoever has both files can read everything")


def _served(report: Report) -> None:
    from mpcc.show.units import count, duration, size

    say(f"inference {report.number}: {count(report.rounds)} rounds, {size(report.bytes)}, {duration(report.seconds)}")
