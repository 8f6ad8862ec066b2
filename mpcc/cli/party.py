"""mpcc run --party: this process is the server, the client or the dealer, and meets the others over the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mpcc import security
from mpcc.errors import SecurityError, UsageError

from .screen import say

if TYPE_CHECKING:
    from mpcc.runtime.session.participant import Report
    from mpcc.runtime.session.session import Outcome
    from mpcc.runtime.session.standalone import PartyConfig

    from .predicted import Predicted

SERVER, CLIENT, DEALER = "server", "client", "dealer"
NAMES = {SERVER: SERVER, CLIENT: CLIENT, DEALER: DEALER, "0": SERVER, "1": CLIENT}
"""The values of --party. Numbers are what the parties are called in the literature."""
PEERS = "--peers host:port,host:port,host:port, of the server, the client and the dealer"


def role_of(text: str) -> str:
    """The role that a value of --party names. UsageError for anything else."""
    if text not in NAMES:
        raise UsageError(f"unknown party {text!r}", where="--party", hint="server, client or dealer")
    return NAMES[text]


def configuration(
    role: str,
    peers: str | None,
    tls: Path | None = None,
    *,
    sessions: int | None = 1,
    insecure_dealer: bool = False,
    material: Path | None = None,
    device: str = "cpu",
) -> PartyConfig:
    """What the options of the command line say of this party."""
    from mpcc.runtime.net.connect import PeerConfig, parse_peers
    from mpcc.runtime.net.identity import Identity
    from mpcc.runtime.session.standalone import PartyConfig

    if peers is None:
        raise UsageError("--party needs the addresses of the others", hint=PEERS)
    identity = None if tls is None else Identity.of(tls, role)
    return PartyConfig(
        PeerConfig(role, parse_peers(peers), identity),
        sessions=sessions,
        material=material,
        insecure_dealer=insecure_dealer,
        report=_served,
        device=device,
        notice=say,
    )


def check_public(bundle: Path, role: str) -> None:
    """SecurityError where a client or a dealer was given more of a bundle than it may have."""
    from mpcc.bundle.folder import PRIVATE, PUBLIC_FOLDER

    found = [name for name in PRIVATE if (bundle / name).exists()]
    if role != SERVER and found:
        raise SecurityError(
            f"this folder holds the weights, which belong to the server alone ({', '.join(found)})",
            where=str(bundle),
            hint=f"Give the {role} the folder {PUBLIC_FOLDER}/ in it, and no more. For trials: --allow-weights.",
        )


def take_part(
    bundle: Path, config: PartyConfig, inputs: list[Path], repeat: int = 1, strict: bool = False, first: int | None = None
) -> tuple[list[Outcome], Predicted, list[str]]:
    """A session in one role. Only the server reads the weights; client and dealer need the public files alone.

    The client learns what of its inputs and outputs is unlike calibration.
    """
    from mpcc.bundle import open_bundle
    from mpcc.runtime.executable import Executable
    from mpcc.runtime.inputs import guard_of
    from mpcc.runtime.session.standalone import run_party

    from . import predicted
    from .guard import Watch
    from .tensors import calls

    opened = open_bundle(bundle, weights=config.role == SERVER)
    expected = predicted.on_device(predicted.elsewhere(opened.program, opened.plan), config.device)
    executable = Executable.of(opened)
    asked = calls(inputs, executable.input_shapes, executable.input_names)[:first] if inputs else []
    once = [executable.call(*call) for call in asked]
    say(security.hides(opened.program.hidden))
    say(_waiting(config))
    if config.role != CLIENT:
        return run_party(opened.program, opened.manifest.model_version, config), expected, []
    watch = Watch(guard_of(opened.plan, opened.program), strict)
    watch.inputs(once)
    done = run_party(opened.program, opened.manifest.model_version, config, once * repeat)
    watch.outputs([one.outputs for one in done[-len(once) :]])
    if executable.answers is not None:
        done = [replace(one, outputs=list(executable.answers.of(one.outputs))) for one in done]
    return done, expected, watch.found


def _waiting(config: PartyConfig) -> str:
    """Whom this role waits for, so that nobody wonders whether it does anything."""
    own = config.peers.addresses.get(config.role)
    if config.role == CLIENT:
        return f"client: meeting the server{'' if len(config.roles) == 2 else ' and the dealer'} ..."
    whom = "a client" if config.role == SERVER else "the server and a client"
    return f"{config.role}: waiting for {whom}{'' if own is None else f' at {own[0]}:{own[1]}'} (Ctrl-C ends it)"


def deal(bundle: Path, folder: Path, count: int, device: str = "cpu") -> None:
    """The dealer's work into files, one per party, for `count` inferences; it is not needed later."""
    from mpcc.bundle import open_bundle
    from mpcc.runtime.dealer.files import deal_to_files
    from mpcc.runtime.device.card import device_of

    opened, place = open_bundle(bundle, weights=False), device_of(device)
    for role, path in deal_to_files(opened.program, opened.manifest.model_version, folder, count, place).items():
        say(f"{path}: for the {role} alone, over a secure channel; whoever has both files can read everything")


def _served(report: Report) -> None:
    from mpcc.show.units import count, duration, size

    say(f"inference {report.number}: {count(report.rounds)} rounds, {size(report.bytes)}, {duration(report.seconds)}")
