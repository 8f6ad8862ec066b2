"""How two peers meet, before anything secret is sent: they compare what they run and agree on one session.

    client -> server   hello                     and the server's hello back; each side compares
    server -> client   queued, queued, ...       how many are ahead; again whenever that changes
    server -> dealer   hello with a new session id, and the dealer's hello that repeats it
    server -> client   start with the session id
    client -> dealer   hello with the session id, and the dealer's hello that repeats it
    client -> server   started with the session id

The session id is random, chosen by the server for one session (with material files: written there by the dealer), and
every message names it. Nobody counts sessions, so no peer can be out of step with the others: whoever disappears at any
moment takes one session with it, and the next one starts from nothing.
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mpcc.errors import PartyError, SecurityError

from .messages import Malformed, Message, hear, printable, say
from .transport import LinkModel
from .wire import HANDSHAKE_SECONDS, Deadline, Wire

PROTOCOL = 5
"""Version of the messages between parties and dealer."""
SERVER, CLIENT, DEALER, HELPER = "server", "client", "dealer", "helper"
"""The roles, as certificates name them. The server (party 0) owns the weights; party 1 is the client, which owns the input,
or a helper, which owns nothing and computes for clients that only share their inputs. The dealer makes correlated
randomness."""
CONNECTS = {CLIENT: (SERVER, DEALER), HELPER: (SERVER, DEALER), SERVER: (DEALER,), DEALER: ()}
"""To whom a role connects; the others connect to it. Whoever connects speaks first."""
SESSION_ID = re.compile(r"[0-9a-f]{32}")


class ConnectionLost(PartyError):
    """The peer closed the connection before the handshake was over. Nothing was sent: another attempt is safe."""


@dataclass(frozen=True)
class Terms:
    """What all peers of a session must agree on. `session` is None as long as it is not known."""

    program: str
    model: str
    session: str | None
    insecure_dealer: bool = False
    link: LinkModel | None = None

    def hello(self, role: str) -> Message:
        """The first message of a role."""
        link = None if self.link is None else f"{self.link.rtt_seconds} {self.link.bandwidth_bytes_per_s} {_boot()}"
        return {
            "kind": "hello",
            "role": role,
            "protocol": PROTOCOL,
            "byte order": sys.byteorder,
            "program digest": self.program,
            "model version": self.model,
            "session id": self.session,
            "insecure dealer": self.insecure_dealer,
            "emulated link": link,
        }


def _boot() -> str:
    """Identifies the running machine: an emulated link needs one clock."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def handshake(
    wire: Wire, me: str, expected: Collection[str], terms: Terms | Sequence[Terms], deadline: Deadline | None = None
) -> tuple[str, Terms]:
    """Exchange hellos with one of the roles `expected`: which one, and the terms with the session id.

    Who listens may have several terms to choose from: those of the program that the other names. SecurityError names
    what differs, on both sides; PartyError when the peer is silent, gone or refuses.
    """
    offered = (terms,) if isinstance(terms, Terms) else tuple(terms)
    terms = offered[0]
    names = " or ".join(expected)
    where = f"{me}: handshake with the {names}"
    deadline = deadline or Deadline(HANDSHAKE_SECONDS)
    first = any(peer in CONNECTS[me] for peer in expected)
    if first:
        _tell(wire, terms.hello(me), where)
    theirs = receive(wire, "hello", where, deadline)
    _check_types(theirs, terms.hello(me), where)
    role = str(theirs["role"])
    if role not in expected or wire.peer not in (None, role):
        raise SecurityError(f"{printable(role)!r} answered, {names} was expected", where=where)
    terms = next((one for one in offered if one.program == theirs["program digest"]), terms)
    named = None if theirs["session id"] is None else session_id(theirs, None, where)
    agreed = replace(terms, session=terms.session or named)
    if not first:
        _tell(wire, agreed.hello(me), where)
    compare(terms.hello(me), theirs, where)
    return role, agreed


def start(wire: Wire, session: str, deadline: Deadline) -> None:
    """The server: let the client begin this session, and wait until it has met the dealer."""
    where = f"{SERVER}: start of a session"
    _tell(wire, {"kind": "start", "session id": session}, where)
    theirs = receive(wire, "started", where, deadline)
    session_id(theirs, session, where)


def started(wire: Wire, session: str, me: str = CLIENT) -> None:
    """The client or the helper: confirm that this session is joined."""
    _tell(wire, {"kind": "started", "session id": session}, f"{me}: start of a session")


def refuse(wire: Wire, reason: str) -> None:
    """Tell a peer why it is not served; it may have gone already."""
    try:
        say(wire, {"kind": "refused", "reason": printable(reason)})
    except (OSError, ValueError):
        pass


def receive(wire: Wire, kind: str | Collection[str], where: str, deadline: Deadline) -> Message:
    """The next message, which must be of the kind (one of the kinds) given. PartyError says what came instead."""
    kinds = (kind,) if isinstance(kind, str) else tuple(kind)
    try:
        message = hear(wire, deadline)
    except TimeoutError:
        raise PartyError(f"no answer within {deadline.seconds:g} s", where=where) from None
    except Malformed as error:
        raise SecurityError(f"the message is malformed: {error}", where=where) from None
    except (EOFError, OSError) as error:
        raise ConnectionLost(f"the connection was closed ({error or 'unexpectedly'})", where=where) from None
    if message.get("kind") == "refused":
        raise PartyError(f"refused: {printable(message.get('reason', 'no reason given'))}", where=where)
    if message.get("kind") not in kinds:
        raise SecurityError(f"{printable(message.get('kind'))!r} came where {' or '.join(kinds)} is due", where=where)
    return message


def compare(mine: Message, theirs: Message, where: str) -> None:
    """SecurityError that names all that differs. A session id that one side does not know yet is no difference."""
    unknown = {"session id"} if mine["session id"] is None or theirs["session id"] is None else set()
    differing = [key for key in mine if key not in {"role", *unknown} and mine[key] != theirs[key]]
    if differing:
        said = "; ".join(f"{key}: {_short(mine[key])} here, {_short(theirs[key])} there" for key in differing)
        raise SecurityError(said, where=where, hint="All parties and the dealer must use the same bundle and options.")


def _check_types(theirs: Message, mine: Message, where: str) -> None:
    """SecurityError unless the message has the fields of a hello, each of its type."""
    for key, value in mine.items():
        if key not in theirs:
            raise SecurityError(f"the hello lacks {key!r}", where=where)
        optional = key in ("session id", "emulated link")
        wanted = str if optional else type(value)
        if not (type(theirs[key]) is wanted or (optional and theirs[key] is None)):
            raise SecurityError(f"the hello has a {type(theirs[key]).__name__} as {key!r}", where=where)


def session_id(message: Message, known: str | None, where: str) -> str:
    """The session id that a message names. SecurityError where it has none, or another than the one that is known."""
    session = message.get("session id")
    if not isinstance(session, str) or SESSION_ID.fullmatch(session) is None:
        raise SecurityError(f"invalid session id {printable(session)!r}", where=where)
    if known is not None and session != known:
        raise SecurityError(f"session id: {_short(known)} here, {_short(session)} there", where=where)
    return session


def _short(value: object) -> str:
    text = printable(value)
    return text if len(text) <= 24 else text[:16] + "..."


def _tell(wire: Wire, message: Message, where: str) -> None:
    try:
        say(wire, message)
    except OSError as error:
        raise ConnectionLost(f"the connection was closed ({error})", where=where) from None
