"""How a role of the service is set up: from serve.toml, or from the options of the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mpcc.errors import SecurityError, UsageError
from mpcc.runtime.net.connect import Address, PeerConfig
from mpcc.runtime.net.handshake import DEALER, HELPER, SERVER
from mpcc.runtime.net.identity import Identity
from mpcc.runtime.net.transport import LinkModel

ROLES = (SERVER, HELPER, DEALER)
NEEDS = {SERVER: (SERVER, DEALER), HELPER: (SERVER, DEALER), DEALER: (DEALER,)}
"""The addresses that a role needs: its own, if it listens, and those that it connects to."""


@dataclass(frozen=True)
class Http:
    """Where clients are answered. `certificate`, `key`: PEM files for TLS. `origins`: web pages that may ask (CORS)."""

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None
    origins: tuple[str, ...] = ("*",)
    allow_plain: bool = False

    def check(self) -> None:
        """SecurityError where shares would cross a network in the clear, UsageError for half a certificate."""
        if (self.certificate is None) != (self.key is None):
            raise UsageError("a certificate needs its key, and a key its certificate", where="http")
        for path in (self.certificate, self.key):
            if path is not None and not path.is_file():
                raise UsageError("no such file", where=str(path))
        if self.certificate is None and self.host not in ("127.0.0.1", "::1", "localhost") and not self.allow_plain:
            hint = (
                "Give certificate and key (--http-certificate, --http-key). Where something in front ends TLS on this very "
                "machine or pod: allow-plain (--http-plain)."
            )
            raise SecurityError(f"clients would send their shares to {self.host} unencrypted", where="http", hint=hint)


@dataclass(frozen=True)
class Limits:
    """`batches`: how many requests may share one computation, at choice. `in_flight`: computations at a time. `ahead`:
    inferences per session for which the dealer works ahead. `pool_megabytes`: memory for such material at either of server and
    helper, see `within`. `queue`: requests at a time. `wait_seconds`: until one is begun; `pair_seconds`: between the two shares
    of a request; `timeout`: silence of another role within a computation."""

    batches: tuple[int, ...] = (1, 4, 16)
    in_flight: int = 2
    ahead: int = 1
    pool_megabytes: int = 2048  # half of what deploy/ gives a pod; two batches of 16 at 24 MB an answer (the Fashion ViT) fit
    queue: int = 256
    wait_seconds: float = 30.0
    pair_seconds: float = 10.0
    timeout: float = 60.0
    threads: int = 1

    def check(self) -> None:
        """UsageError for a limit that lets nothing through."""
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name != "batches" and not value > 0:
                raise UsageError(f"{one.name.replace('_', '-')} is {value}, a positive number is needed", where="limits")

    def within(self, dealer_bytes: int) -> Limits:
        """These limits for a program with so many bytes of material at a party, as far as it fits into the pool: without the
        largest batch sizes, and, where even one request at a time is too much, with fewer computations. One of one request is
        always left."""
        budget, one = self.pool_megabytes * 10**6, dealer_bytes * (self.ahead + 1)
        lanes = max(1, min(self.in_flight, budget // max(1, one)))
        found, taken = [1], one * lanes
        for size in sorted(set(self.batches) - {1}):
            if taken + size * one * lanes > budget:
                break
            found.append(size)
            taken += size * one * lanes
        return replace(self, batches=tuple(found), in_flight=lanes)


@dataclass(frozen=True)
class ServeConfig:
    """One role of one replica."""

    peers: PeerConfig
    http: Http | None = None
    limits: Limits = field(default_factory=Limits)
    replica: int = 0
    link: LinkModel | None = None
    device: str = "cpu"
    """Where the role computes: cpu, cuda, cuda:1."""

    @property
    def role(self) -> str:
        return self.peers.role

    def check(self) -> None:
        """UsageError, SecurityError: everything that can be known to be wrong before anything starts."""
        if self.role not in ROLES:
            raise UsageError(f"unknown role {self.role!r}", where="--role", hint=f"one of {', '.join(ROLES)}")
        if missing := [role for role in NEEDS[self.role] if role not in self.peers.addresses]:
            raise UsageError(f"no address of the {' and the '.join(missing)}", where="peers", hint=PEERS)
        self.peers.check()
        self.limits.check()
        if self.http is not None:
            self.http.check()
        elif self.role != DEALER:
            raise UsageError(f"the {self.role} answers clients: say where", where="http", hint="--http HOST:PORT")


PEERS = "the addresses of server and dealer for the link between the roles: server=HOST:PORT,dealer=HOST:PORT"


def address(text: str, where: str) -> Address:
    """(host, port) of "host:port". UsageError."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise UsageError(f"{text!r} is not HOST:PORT", where=where)
    return host.strip("[]"), int(port)


def peers_of(text: str) -> dict[str, Address]:
    """`server=a:7000,dealer=c:7002` -> addresses by role. UsageError."""
    found = {}
    for part in text.split(","):
        role, equals, place = part.partition("=")
        if not equals or role.strip() not in (SERVER, DEALER):
            raise UsageError(f"{part!r} is not server=HOST:PORT or dealer=HOST:PORT", where="--peers", hint=PEERS)
        found[role.strip()] = address(place, "--peers")
    return found


KNOWN = {
    "role", "replica", "device", "peers", "http", "limits", "peers.server", "peers.dealer", "peers.tls", "http.host", "http.port",
    "http.certificate", "http.key", "http.origins", "http.allow-plain",
    *(f"limits.{one.name.replace('_', '-')}" for one in fields(Limits)),
}  # fmt: skip


def read(path: Path, role: str | None = None, replica: int | None = None) -> ServeConfig:
    """The configuration in a file. `role` and `replica` may be given beside it, so that one file serves several roles.

    In addresses `{replica}` stands for the number of the replica, as the pods of a StatefulSet are named. UsageError names
    what is wrong; files are relative to the folder of serve.toml.
    """
    where = str(path)
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot be read: {error}", where=where) from None
    keys = {key for key in found} | {
        f"{table}.{key}" for table, inside in found.items() if isinstance(inside, dict) for key in inside
    }
    if unknown := sorted(keys - KNOWN):
        raise UsageError(f"unknown: {', '.join(unknown)}", where=where, hint=f"known: {', '.join(sorted(KNOWN))}")
    try:
        return _made(found, path, role, replica)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise UsageError(f"a value of the wrong type: {error}", where=where) from None


def _made(found: Mapping[str, Any], path: Path, role: str | None, replica: int | None) -> ServeConfig:
    chosen, number = role or str(found.get("role", "")), int(found.get("replica", 0)) if replica is None else replica
    peers, http, limits = found.get("peers", {}), found.get("http"), found.get("limits", {})
    addresses = {
        one: address(str(peers[one]).replace("{replica}", str(number)), f"{path}: peers.{one}")
        for one in (SERVER, DEALER)
        if one in peers
    }
    identity = Identity.of(path.parent / str(peers["tls"]), chosen) if "tls" in peers else None
    made = {key.replace("-", "_"): value for key, value in limits.items()}
    if "batches" in made:
        made["batches"] = tuple(int(size) for size in made["batches"])
    front = None
    if http is not None:
        front = Http(
            str(http.get("host", Http.host)),
            int(http.get("port", Http.port)),
            path.parent / http["certificate"] if "certificate" in http else None,
            path.parent / http["key"] if "key" in http else None,
            tuple(str(origin) for origin in http.get("origins", Http.origins)),
            bool(http.get("allow-plain", False)),
        )
    return ServeConfig(
        PeerConfig(chosen, addresses, identity), front, replace(Limits(), **made), number,
        device=str(found.get("device", ServeConfig.device)),
    )  # fmt: skip
