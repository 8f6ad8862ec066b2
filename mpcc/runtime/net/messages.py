"""Control messages between peers: flat JSON objects of bounded size, parsed without trust in whoever sent them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

from .wire import Deadline, Wire

Value = str | int | float | bool | None
Message = dict[str, Value]

LENGTH = struct.Struct("<I")
MOST_BYTES = 4096
"""A hello has some 400 bytes; a reason may be longer."""
MOST_TEXT = 300
"""Characters that are shown of a text that a peer sent."""


class Malformed(Exception):
    """Bytes that are not a control message; the text says why."""


def encode(message: Mapping[str, Value]) -> bytes:
    return json.dumps(dict(message)).encode()


def decode(data: bytes | bytearray) -> Message:
    """A flat object of JSON scalars. Malformed for anything else, however large or deep."""
    if len(data) > MOST_BYTES:
        raise Malformed(f"{len(data)} bytes where at most {MOST_BYTES} are allowed")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("not JSON, or nested too deeply") from None
    if not isinstance(found, dict) or not all(isinstance(v, str | int | float | bool | None) for v in found.values()):
        raise Malformed("not a flat JSON object")
    return found


def say(wire: Wire, message: Mapping[str, Value], *, wait: bool = True) -> None:
    """Send a message. `wait=False`: BlockingIOError where the peer has not read what was sent before."""
    data = encode(message)
    for sealed in wire.sealed([LENGTH.pack(len(data)) + data]):
        if wait:
            wire.write(sealed)
        elif wire.push(sealed):
            raise BlockingIOError("the peer does not read")


def hear(wire: Wire, deadline: Deadline) -> Message:
    """The next message. Malformed, EOFError, TimeoutError, OSError."""
    size = bytearray(LENGTH.size)
    wire.read_into(memoryview(size), deadline)
    (count,) = LENGTH.unpack(size)
    if count > MOST_BYTES:
        raise Malformed(f"{count} bytes where at most {MOST_BYTES} are allowed")
    data = bytearray(count)
    wire.read_into(memoryview(data), deadline)
    return decode(data)


def printable(value: object) -> str:
    """A peer's text as it may be shown: one line without control characters or terminal escapes, of bounded length."""
    text = "".join(c if c.isprintable() else "?" for c in str(value)[: MOST_TEXT + 1])
    return text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "..."
