"""mpcc serve: private inference for any number of thin clients, by a server, a helper and a dealer."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import early, options
from .screen import say

if TYPE_CHECKING:
    from mpcc.serving.config import ServeConfig

EPILOG = (
    "Examples: mpcc serve model.mpcc      (all roles on this machine, for trying out: protects nobody)\n\n"
    "Two organisations and a dealer: mpcc serve model.mpcc --role server --config serve.toml; likewise mpcc serve "
    "model.mpcc/public --role helper --config serve.toml, and --role dealer. docs/serving.md has the file.\n\n"
    "Then, at any client: mpcc ask https://a.example https://b.example image.png"
)
EXTRA = "pip install 'mpcc[serve]'"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve", epilog=EPILOG)(serve)


def serve(
    bundle: options.Bundle,
    role: Annotated[
        str | None, typer.Option(metavar="server|helper|dealer", help="The role of this process. Default: all, here.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="serve.toml", help="The role's set-up; options override it.")] = None,
    replica: Annotated[
        int | None, typer.Option(metavar="I", min=0, help="Which replica this process belongs to, from 0.")
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(metavar="server=HOST:PORT,dealer=HOST:PORT", help="Where server and dealer meet the other roles."),
    ] = None,
    tls: Annotated[Path | None, typer.Option(metavar="FOLDER", help="This role's folder of `mpcc keys`.")] = None,
    http: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where clients are answered (dealer: health and metrics).")
    ] = None,
    http_certificate: Annotated[Path | None, typer.Option(metavar="PEM", help="The certificate that clients see.")] = None,
    http_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its key.")] = None,
    http_plain: Annotated[
        bool, typer.Option("--http-plain", help="Clients' TLS ends in front of this process, on the same machine or pod.")
    ] = False,
    batch: Annotated[
        str | None, typer.Option(metavar="1,4,16", help="How many requests may share the rounds of one computation.")
    ] = None,
    in_flight: Annotated[int | None, typer.Option(metavar="N", min=1, help="Computations at a time.")] = None,
    replicas: Annotated[
        int, typer.Option(metavar="N", min=1, max=16, help="All roles here: so many of each, side by side.")
    ] = 1,
    network: Annotated[
        str | None, typer.Option(metavar="N", help=f"Emulate a network between the roles: {options.NETWORK_HELP}")
    ] = None,
    device: options.Device = "cpu",
    until_stdin_closes: Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)] = False,
    allow_weights: Annotated[
        bool, typer.Option("--allow-weights", help="Let helper or dealer run from a folder that holds the weights.")
    ] = False,
) -> None:
    """Serve a bundle over HTTP to clients that only share their inputs."""
    from mpcc.errors import UsageError

    early.bundle(bundle)
    early.read([config, http_certificate, http_key], "mpcc serve")
    check_installed()
    options.device(device)
    limits = _limits(batch, in_flight)
    if role is None and config is None:
        if peers or tls or http_certificate or http_key or replica is not None:
            raise UsageError("these options are of one role", hint="say which: --role server, helper or dealer")
        _here(bundle, replicas, http, limits, network, device)
        return
    if replicas != 1:
        raise UsageError("--replicas starts all roles here; a process of one role is one replica", hint="--replica I")
    made = _config(role, config, replica, peers, tls, http)
    if made.http is not None:
        chosen = {"certificate": http_certificate, "key": http_key, "allow_plain": http_plain or None}
        front = replace(made.http, **{key: value for key, value in chosen.items() if value is not None})  # type: ignore[arg-type]
        made = replace(made, http=front)
    if device != "cpu":
        made = replace(made, device=device)
    made = replace(made, limits=replace(made.limits, **limits), link=_link(network))  # type: ignore[arg-type]
    if until_stdin_closes:
        threading.Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
    _serve(bundle, made, allow_weights)


def _end_with_stdin() -> None:
    """End when whoever started this process has gone."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def check_installed() -> None:
    """MissingDependency where the HTTP stack is not installed."""
    from importlib.util import find_spec

    from mpcc.errors import MissingDependency

    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise MissingDependency(f"serving needs {', '.join(missing)}", hint=EXTRA)


def _serve(bundle: Path, config: ServeConfig, allow_weights: bool) -> None:
    from mpcc.bundle import open_bundle
    from mpcc.serving.run import serve as run
    from mpcc.serving.served import Served

    from .party import SERVER, check_public

    config.check()
    if not allow_weights:
        check_public(bundle, config.role)
    opened = open_bundle(bundle, weights=config.role == SERVER)
    limits = config.limits.within(opened.program.cost.busier_dealer_bytes)
    pool = f"do not fit into a pool of {config.limits.pool_megabytes} MB (pool-megabytes)"
    if left := sorted({*config.limits.batches} - {*limits.batches}):
        say(f"batches of {', '.join(map(str, left))} {pool}: left out")
    if limits.in_flight < config.limits.in_flight:
        say(f"{config.limits.in_flight} computations at a time {pool}: {limits.in_flight}")
    run(Served.of(opened, limits.batches), replace(config, limits=limits))


def _config(
    role: str | None, config: Path | None, replica: int | None, peers: str | None, tls: Path | None, http: str | None
) -> ServeConfig:
    from mpcc.runtime.net.connect import PeerConfig
    from mpcc.runtime.net.identity import Identity
    from mpcc.serving.config import ROLES, Http, ServeConfig, address, peers_of, read

    made = read(config, role, replica) if config is not None else ServeConfig(PeerConfig(role or "", {}), replica=replica or 0)
    if made.role not in ROLES:
        from mpcc.errors import UsageError

        raise UsageError(f"unknown role {made.role!r}", where="--role", hint=f"one of {', '.join(ROLES)}")
    if peers is not None:
        made = replace(made, peers=replace(made.peers, addresses={**made.peers.addresses, **peers_of(peers)}))
    if tls is not None:
        made = replace(made, peers=replace(made.peers, identity=Identity.of(tls, made.role)))
    if http is not None:
        host, port = address(http, "--http")
        made = replace(made, http=replace(made.http or Http(), host=host, port=port))
    return made


def _limits(batch: str | None, in_flight: int | None) -> dict[str, object]:
    """The limits that were given as options."""
    from mpcc.errors import UsageError

    found: dict[str, object] = {} if in_flight is None else {"in_flight": in_flight}
    if batch is not None:
        parts = [part.strip() for part in batch.split(",")]
        if not all(part.isascii() and part.isdigit() for part in parts):
            raise UsageError(f"invalid batch sizes {batch!r}", where="--batch", hint="whole numbers, as in 1,4,16")
        found["batches"] = tuple(int(part) for part in parts)
    return found


def _link(network: str | None) -> object:
    from mpcc.cost import Network
    from mpcc.runtime.net.transport import LinkModel

    if network is None:
        return None
    found = Network.parse(network)
    return LinkModel(found.rtt_seconds, found.bandwidth)


def _here(bundle: Path, replicas: int, http: str | None, limits: dict[str, object], network: str | None, device: str) -> None:
    import time

    from mpcc import security
    from mpcc.bundle import open_bundle
    from mpcc.errors import UsageError
    from mpcc.serving.config import address
    from mpcc.serving.local import HOST, here
    from mpcc.serving.served import Served

    host, port = address(http, "--http") if http is not None else (HOST, 8000)
    if host not in (HOST, "localhost"):
        raise UsageError("all roles on one machine protect nobody, so they answer this machine alone", where="--http")
    opened = open_bundle(bundle)
    Served.of(opened, limits.get("batches", (1,)))  # type: ignore[arg-type]  # what is wrong with it is told here
    given = [f"--{key.replace('batches', 'batch').replace('_', '-')}={_text(value)}" for key, value in limits.items()]
    given += [] if network is None else ["--network", network]
    given += [] if device == "cpu" else ["--device", device]
    typer.echo(f"NOT PRIVATE: {security.SERVED_HERE}")
    with here(bundle, replicas=replicas, port=port, options=given) as running:
        for replica in running.replicas:
            typer.echo(f"server: {replica.server}   helper: {replica.helper}   (API: {replica.server}/docs)")
        first = running.replicas[0]
        typer.echo(f"Ask it: mpcc ask {first.server} {first.helper} image.png      (Ctrl-C ends the service)")
        while True:
            running.check()
            time.sleep(0.5)


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
