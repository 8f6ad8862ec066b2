"""Where a role accepts connections: authentication and handshake of all newcomers at once, none waits for another.

A newcomer has HANDSHAKE_SECONDS in total until its hello is complete, on a thread of its own. Of more than MOST_PENDING
at a time, the oldest of the address that has most of them is dropped: an honest peer is through within milliseconds, so
whoever holds connections open loses his own. Newcomers that fail end no wait; they are reported, not too often.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from mpcc.errors import MpccError, PartyError

from .connect import PeerConfig
from .handshake import Terms, handshake
from .wire import HANDSHAKE_SECONDS, Deadline, Wire

MOST_PENDING = 64
"""Connections that have not said hello yet. Each costs a thread and a descriptor."""
TICK_SECONDS = 0.5
NOTICES, NOTICE_SECONDS = 10, 10.0
"""At most so many notices in so many seconds: a stranger must not fill the log."""

Notice = Callable[[str], None]


@dataclass(eq=False)
class Visitor:
    """A peer that has proved its role and compared terms."""

    role: str
    wire: Wire
    terms: Terms
    ahead: int | None = None
    """How many were ahead of it in the queue when it was last told."""

    @property
    def session(self) -> str | None:
        """The session that it named."""
        return self.terms.session


class Listener:
    """Accepts peers in the background and gives each to `arrived`; `tick` is called now and then."""

    def __init__(
        self,
        peers: PeerConfig,
        expected: Collection[str],
        terms: Terms | Sequence[Terms],
        arrived: Callable[[Visitor], None],
        *,
        tick: Callable[[], None] = lambda: None,
        notice: Notice = lambda text: None,
    ) -> None:
        host, port = peers.addresses[peers.role]
        self.peers, self.expected, self.terms = peers, expected, terms
        self.arrived, self.tick = arrived, tick
        self.context = None if peers.identity is None else peers.identity.context(server=True)
        self.last_refusal = ""
        self._notices = _Notices(notice)
        self._pending: dict[socket.socket, str] = {}
        self._lock = threading.Lock()
        self._open = True
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family, backlog=2 * MOST_PENDING)
        except OSError as error:
            raise PartyError(f"cannot listen at {host}:{port} ({error})", where=peers.role) from None
        self._socket.settimeout(TICK_SECONDS)
        self._thread = threading.Thread(target=self._accept, name="listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Accept nobody any more."""
        self._open = False
        _shut(self._socket)
        self._thread.join()
        self._socket.close()
        with self._lock:
            waiting = list(self._pending)
        for sock in waiting:
            _shut(sock)

    def _accept(self) -> None:
        ticked = 0.0
        while self._open:
            if time.monotonic() > ticked + TICK_SECONDS:
                ticked = time.monotonic()
                self.tick()
                self._notices.flush()
            try:
                sock, address = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:  # the newcomer has gone, or descriptors have run out: pending ones give theirs back soon
                time.sleep(0.05)
                continue
            self._admit(sock, str(address[0]))

    def _admit(self, sock: socket.socket, host: str) -> None:
        with self._lock:
            if len(self._pending) >= MOST_PENDING:
                self._drop_one()
            self._pending[sock] = host
        try:
            threading.Thread(target=self._welcome, args=(sock, host), name="handshake", daemon=True).start()
        except RuntimeError:  # no more threads
            self._forget(sock)
            sock.close()

    def _drop_one(self) -> None:
        most = Counter(self._pending.values()).most_common(1)[0][0]
        oldest = next(sock for sock, host in self._pending.items() if host == most)
        del self._pending[oldest]
        _shut(oldest)

    def _welcome(self, sock: socket.socket, host: str) -> None:
        """Authenticate a newcomer and hear what it wants."""
        deadline = Deadline(HANDSHAKE_SECONDS)
        try:
            wire = self.peers.wire(sock, self.expected, self.context, deadline, server=True)
            role, agreed = handshake(wire, self.peers.role, self.expected, self.terms, deadline)
            self._forget(sock)
            self.arrived(Visitor(role, wire, agreed))
        except Exception as error:  # whatever a newcomer brings about ends with it
            self._forget(sock)
            sock.close()
            reason = error.what if isinstance(error, MpccError) else str(error)
            self.last_refusal = f"; {host} was refused: {reason}"
            self._notices.add(f"{self.peers.role}: refused {host}: {reason}")

    def _forget(self, sock: socket.socket) -> None:
        with self._lock:
            self._pending.pop(sock, None)


class _Notices:
    """Reports that stay bounded whatever strangers do."""

    def __init__(self, notice: Notice) -> None:
        self.notice = notice
        self._lock = threading.Lock()
        self._begin, self._given, self._left_out = 0.0, 0, 0

    def add(self, text: str) -> None:
        with self._lock:
            if self._given >= NOTICES and time.monotonic() < self._begin + NOTICE_SECONDS:
                self._left_out += 1
                return
            self._renew()
            self._given += 1
        self._say(text)

    def flush(self) -> None:
        with self._lock:
            self._renew()

    def _renew(self) -> None:
        if time.monotonic() < self._begin + NOTICE_SECONDS:
            return
        if self._left_out:
            self._say(f"{self._left_out} more were refused")
        self._begin, self._given, self._left_out = time.monotonic(), 0, 0

    def _say(self, text: str) -> None:
        try:
            self.notice(text)
        except Exception:  # where reports go is closed: that must not close the service to newcomers
            pass


def _shut(sock: socket.socket) -> None:
    """Wake the thread that waits on a socket; it is closed by whoever owns it."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
