"""Where the peers of a role are, and how a connection to one of them is made."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpcc.errors import PartyError, SecurityError, UsageError

from .handshake import CLIENT, DEALER, SERVER
from .wire import KEYS, Identity, TlsWire, Wire

ROLES = (SERVER, CLIENT, DEALER)
Address = tuple[str, int]


def parse_peers(text: str) -> dict[str, Address]:
    """`a:7000,b:7001,c:7002` -> addresses of server, client and dealer; the dealer's may be left out. UsageError."""
    parts = [part.strip() for part in text.split(",")]
    hint = "give the server, the client and the dealer, in this order: host:port,host:port,host:port"
    if len(parts) not in (2, 3):
        raise UsageError(f"{len(parts)} addresses in {text!r}", hint=hint)
    found: dict[str, Address] = {}
    for role, part in zip(ROLES, parts, strict=False):
        host, colon, port = part.rpartition(":")
        if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
            raise UsageError(f"{part!r} is not host:port", hint=hint)
        found[role] = (host.strip("[]"), int(port))
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
        elif not self.allow_plain and not all(_local(host) for host, _ in self.addresses.values()):
            raise SecurityError("a link to another machine needs TLS", where=self.role, hint=KEYS)

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
        return self.wire(sock, (peer,), server=False)

    def wire(self, sock: socket.socket, expected: Sequence[str], *, server: bool) -> Wire:
        """Authenticate a connection, if there is TLS."""
        sock.settimeout(5.0)
        if self.identity is None:
            return Wire(sock)
        try:
            return TlsWire(sock, self.identity, expected, server=server)
        except (OSError, EOFError) as error:
            names = " or ".join(expected)
            raise PartyError(f"{names} closed the connection ({error or 'TLS'})", where=self.role) from None


def _local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
