"""Where the peers of a role are, and how a connection to one of them is made."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from mpcc import security
from mpcc.errors import PartyError, SecurityError, UsageError

from .handshake import CLIENT, DEALER, SERVER, ConnectionLost, Terms, handshake, refuse
from .identity import KEYS, Identity
from .wire import HANDSHAKE_SECONDS, Deadline, TlsWire, Wire

ROLES = (SERVER, CLIENT, DEALER)
Address = tuple[str, int]
ATTEMPTS = 5
"""How often a session is joined anew whose connection is lost before it has begun."""
Result = TypeVar("Result")


def free_ports(count: int) -> list[int]:
    """So many ports of this machine that nobody listens at now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(one.getsockname()[1]) for one in sockets]


def parse_peers(text: str) -> dict[str, Address]:
    """`a:7000,b:7001,c:7002` -> addresses of server, client and dealer; the dealer's may be left out. UsageError."""
    hint = "give the server, the client and the dealer, in this order: host:port,host:port,host:port"
    return dict(zip(ROLES, parse_hosts(text, hint), strict=False))


def parse_hosts(text: str, hint: str) -> list[Address]:
    """Two or three addresses. UsageError with the hint for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (2, 3):
        raise UsageError(f"{len(parts)} addresses in {text!r}", hint=hint)
    found: list[Address] = []
    for part in parts:
        host, colon, port = part.rpartition(":")
        if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
            raise UsageError(f"{part!r} is not host:port", hint=hint)
        found.append((host.strip("[]"), int(port)))
    return found


@dataclass(frozen=True)
class PeerConfig:
    """How a role reaches the others. `allow_plain` permits links to other machines without TLS, for tests only."""

    role: str
    addresses: Mapping[str, Address]
    identity: Identity | None = None
    allow_plain: bool = False
    connect_seconds: float = 60.0

    def check(self) -> None:
        """SecurityError where a link would leave this machine unencrypted, or the certificate files are unusable."""
        if self.identity is not None:
            self.identity.context(server=False)
        elif not self.allow_plain and not all(security.is_this_machine(host) for host, _ in self.addresses.values()):
            raise SecurityError("a link to another machine needs TLS", where=self.role, hint=KEYS)

    def meet(self, peer: str, terms: Terms) -> tuple[Wire, Terms]:
        """A connection to a peer that runs the same, and the terms with the session id. PartyError, SecurityError."""
        wire = self.connect_with_retry(peer)
        try:
            return wire, handshake(wire, self.role, (peer,), terms)[1]
        except ConnectionLost as error:
            wire.close()
            hint = "Perhaps the other side expects TLS (--tls)." if self.identity is None else None
            raise ConnectionLost(error.what, where=error.where, hint=hint) from None
        except BaseException:
            wire.close()
            raise

    def connect_with_retry(self, peer: str) -> Wire:
        """Connect to a peer, which may start later than this process. PartyError after `connect_seconds`."""
        deadline = time.monotonic() + self.connect_seconds
        while True:
            try:
                sock = socket.create_connection(self.addresses[peer], timeout=5.0)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    host, port = self.addresses[peer]
                    raise PartyError(f"{peer} does not answer at {host}:{port} ({error})", where=self.role) from None
                time.sleep(0.1)
        context = None if self.identity is None else self.identity.context(server=False)
        return self.wire(sock, (peer,), context, Deadline(HANDSHAKE_SECONDS), server=False)

    def wire(
        self,
        sock: socket.socket,
        expected: Collection[str],
        context: ssl.SSLContext | None,
        deadline: Deadline,
        *,
        server: bool,
    ) -> Wire:
        """A wire over a new connection, authenticated if there is TLS. It is closed where that fails."""
        names = " or ".join(expected)
        try:
            if context is None:
                return Wire(sock)
            wire = TlsWire(sock, context, expected, server=server, deadline=deadline)
            if self.identity is not None and self.identity.refuses(wire.serial):
                refuse(wire, "this certificate has been revoked")
                raise SecurityError(f"the {names} has a revoked certificate ({wire.serial:x})", where=self.role)
            return wire
        except (OSError, EOFError) as error:
            sock.close()
            what = f"the {names} closed the connection ({error or 'while TLS was set up'})"
            raise ConnectionLost(what, where=self.role) from None
        except BaseException:
            sock.close()
            raise


def again_when_lost(join: Callable[[], Result]) -> Result:
    """The result of `join`, tried anew a few times where the connection is lost before the session has begun.

    A busy listener drops the oldest of too many newcomers, and a peer may be restarting. Nothing was sent: it is safe.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return join()
        except ConnectionLost:
            time.sleep(random.uniform(0.1, 0.3) * attempt)
    return join()
