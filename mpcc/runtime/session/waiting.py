"""Peers that have arrived and wait for their session: clients in a server's queue, pairs at a dealer.

The listener's threads bring them in, one thread takes them out. Whoever has gone meanwhile is dropped.
"""

from __future__ import annotations

import threading
import time

from mpcc.errors import PartyError

from ..net.handshake import CLIENT, SERVER, refuse
from ..net.listener import Visitor
from ..net.messages import say

MOST_WAITING = 32
"""Clients in a queue, and halves of a session per role at a dealer."""
PAIR_SECONDS = 60.0
"""How long a dealer keeps one half of a session whose other half does not come."""
LOOK_SECONDS = 0.2
"""How often whoever waits looks whether it should stop."""


class ClientQueue:
    """First come, first served; each client is told how many are ahead of it, and again when that changes."""

    def __init__(self) -> None:
        self._waiting: list[Visitor] = []
        self._changed = threading.Condition()
        self._serving = False

    def arrived(self, client: Visitor) -> None:
        """Queue a client; one too many is refused."""
        with self._changed:
            self._sweep()
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(client)
                self._tell()
                self._changed.notify()
                return
        refuse(client.wire, f"the queue is full ({MOST_WAITING} clients wait): try again later")
        client.wire.close()

    def next(self, deadline: float | None, stop: threading.Event) -> Visitor | None:
        """The next client, which is served until `next` is called again; None past the deadline or when stopped."""
        with self._changed:
            self._serving = False
            while True:
                self._sweep()
                if self._waiting:
                    self._serving = True
                    client = self._waiting.pop(0)
                    self._tell()
                    return client
                if stop.is_set() or not _wait(self._changed, deadline):
                    return None

    def tick(self) -> None:
        """Drop who has gone."""
        with self._changed:
            self._sweep()

    def close(self) -> None:
        """Refuse all who still wait."""
        for client in self._waiting:
            refuse(client.wire, "the server stops")
            client.wire.close()

    def _sweep(self) -> None:
        gone = [client for client in self._waiting if client.wire.gone()]
        for client in gone:
            self._drop(client)
        if gone:
            self._tell()

    def _tell(self) -> None:
        for position, client in enumerate(list(self._waiting)):
            ahead = position + self._serving
            if ahead == client.ahead or (ahead == 0 and client.ahead is None):
                continue
            client.ahead = ahead
            try:
                say(client.wire, {"kind": "queued", "ahead": ahead}, wait=False)
            except OSError:
                self._drop(client)

    def _drop(self, client: Visitor) -> None:
        self._waiting.remove(client)
        client.wire.close()


class Pairing:
    """Joins a server and a party 1 that name the same session and program."""

    def __init__(self, second: str = CLIENT) -> None:
        """`second`: the role of party 1."""
        self.second = second
        self._halves: dict[tuple[str, str], tuple[Visitor, float]] = {}  # (role, session) -> who, and until when
        self._pairs: list[tuple[Visitor, Visitor]] = []
        self._changed = threading.Condition()

    def arrived(self, half: Visitor) -> None:
        """Keep a half until the other comes. PartyError for one that names no session, or one that is taken."""
        problem = self._take(half)
        if problem is not None:
            refuse(half.wire, problem)
            raise PartyError(f"the {half.role} was refused: {problem}")

    def _take(self, half: Visitor) -> str | None:
        """Why a half is not accepted, None if it is."""
        if half.session is None:
            return "the hello names no session"
        with self._changed:
            if (half.role, half.session) in self._halves:
                return "this session is taken"
            if len(self._pairs) >= MOST_WAITING:
                return f"{MOST_WAITING} sessions wait already"
            other = self.second if half.role == SERVER else SERVER
            found = self._halves.get((other, half.session))
            if found is not None and found[0].terms.program != half.terms.program:
                return "the other party runs another program"
            if found is None:
                self._make_room(half.role)
                self._halves[half.role, half.session] = half, time.monotonic() + PAIR_SECONDS
            else:
                del self._halves[other, half.session]
                self._pairs.append((half, found[0]) if half.role == SERVER else (found[0], half))
                self._changed.notify()
        return None

    def next(self, deadline: float | None, stop: threading.Event) -> tuple[Visitor, Visitor] | None:
        """Server and client of the next session; None past the deadline or when stopped."""
        with self._changed:
            while True:
                while self._pairs:
                    pair = self._pairs.pop(0)
                    if not any(half.wire.gone() for half in pair):
                        return pair
                    for half in pair:
                        half.wire.close()
                if stop.is_set() or not _wait(self._changed, deadline):
                    return None

    def tick(self) -> None:
        """Drop halves that have gone or are too old."""
        with self._changed:
            for key, (half, until) in list(self._halves.items()):
                if half.wire.gone() or time.monotonic() > until:
                    half.wire.close()
                    del self._halves[key]

    def close(self) -> None:
        for half in [*(half for half, _ in self._halves.values()), *(half for pair in self._pairs for half in pair)]:
            half.wire.close()

    def _make_room(self, role: str) -> None:
        """The oldest of a role goes where there are too many: an honest half is paired within moments."""
        kept = [key for key in self._halves if key[0] == role]
        if len(kept) >= MOST_WAITING:
            self._halves.pop(kept[0])[0].wire.close()


def _wait(changed: threading.Condition, deadline: float | None) -> bool:
    """Wait for a change; False past the deadline."""
    if deadline is None:
        changed.wait(LOOK_SECONDS)
        return True
    left = deadline - time.monotonic()
    if left > 0:
        changed.wait(min(left, LOOK_SECONDS))
    return left > 0


