"""What two peers compare before anything secret is sent: they must run the same program of the same model."""

from __future__ import annotations

import json
import socket
import struct
import sys
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mpcc.errors import PartyError, SecurityError

from .transport import LinkModel
from .wire import Wire

PROTOCOL = 2
"""Version of the messages between parties and dealer."""
MOST_BYTES = 1 << 14
SERVER, CLIENT, DEALER = "server", "client", "dealer"
"""The roles, as certificates name them. The server (party 0) owns the weights, the client (party 1) the input; the dealer
makes correlated randomness."""


@dataclass(frozen=True)
class Terms:
    """What all peers of a session must agree on. `session` is None as long as it is not known."""

    program: str
    model: str
    session: str | None
    insecure_dealer: bool = False
    link: LinkModel | None = None

    def hello(self, role: str) -> dict[str, Any]:
        link = None if self.link is None else [self.link.rtt_seconds, str(self.link.bandwidth_bytes_per_s), _boot()]
        fields = asdict(self) | {"link": link, "byte order": sys.byteorder, "protocol": PROTOCOL, "role": role}
        return {NAMES.get(key, key): value for key, value in fields.items()}


NAMES = {
    "program": "program digest",
    "model": "model version",
    "session": "session id",
    "insecure_dealer": "insecure dealer",
    "link": "emulated link",
}


def _boot() -> str:
    """Identifies the running machine: an emulated link needs one clock."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def handshake(
    wire: Wire, me: str, expected: Collection[str], terms: Terms, *, timeout: float = 20.0
) -> tuple[str, Terms]:
    """Exchange hellos with one of the roles `expected`: which, and the terms with the session id that one of both knew.

    SecurityError names what differs, on both sides; PartyError when the peer is silent, gone or refuses.
    """
    names = " or ".join(expected)
    where = f"{me}: handshake with {names}"
    mine = terms.hello(me)
    wire.socket.settimeout(timeout)
    try:
        _say(wire, mine)
        theirs = _hear(wire)
    except TimeoutError:
        raise PartyError(f"{names} has been silent for {timeout:g} s", where=where) from None
    except (EOFError, OSError) as error:
        raise PartyError(f"{names} closed the connection ({error or 'without a word'})", where=where) from None
    wire.socket.settimeout(None)
    if "refused" in theirs:
        raise PartyError(f"{names} refuses: {theirs['refused']}", where=where)
    role = str(theirs.get("role"))
    if role not in expected or wire.peer not in (None, role):
        raise SecurityError(f"{role!r} answered, {' or '.join(expected)} was expected", where=where)
    compare(mine, theirs, where)
    return role, replace(terms, session=terms.session or theirs["session id"])


def refuse(wire: Wire, reason: str) -> None:
    """Answer instead of a hello."""
    wire.socket.settimeout(2.0)
    _say(wire, {"refused": reason})


def compare(mine: dict[str, Any], theirs: dict[str, Any], where: str) -> None:
    """SecurityError that names all that differs."""
    session = "session id"
    differing = [
        key
        for key in mine
        if key != "role"
        and mine[key] != theirs.get(key)
        and not (key == session and (mine[key] is None or theirs.get(key) is None))
    ]
    if differing:
        said = "; ".join(f"{key}: {_short(mine[key])} here, {_short(theirs.get(key))} there" for key in differing)
        raise SecurityError(said, where=where, hint="All parties and the dealer must use the same bundle and options.")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:16] + "..."


def _say(wire: Wire, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode()
    for sealed in wire.sealed([struct.pack("<I", len(data)) + data]):
        wire.write(sealed)


def _hear(wire: Wire) -> dict[str, Any]:
    size = bytearray(4)
    wire.read_into(memoryview(size))
    (count,) = struct.unpack("<I", size)
    if count > MOST_BYTES:
        raise EOFError("no hello")
    data = bytearray(count)
    wire.read_into(memoryview(data))
    try:
        message = json.loads(data)
    except ValueError:
        raise EOFError("no hello") from None
    if not isinstance(message, dict):
        raise EOFError("no hello")
    return message
