"""Byte pipes over a connected TCP socket, plain or under TLS 1.3 with both sides authenticated.

A wire has one reader thread and one sender at a time, both at once. OpenSSL allows no two calls on one connection, so
under TLS the encryption is done in memory, under a lock, and the socket is used outside of it.
"""

from __future__ import annotations

import math
import socket
import ssl
import struct
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpcc.errors import SecurityError

from .identity import AGAIN, KEYS

Buffer = bytes | bytearray | memoryview
TLS_BYTES = 1 << 20
"""How much is encrypted before it is handed to the socket."""
SEND_BUFFER = 4 << 20
NO_WAIT = socket.MSG_DONTWAIT
TICK_SECONDS = 0.25
"""How long the kernel lets a read wait before it looks at its deadline."""
HANDSHAKE_SECONDS = 10.0
"""Total time in which a new connection must authenticate itself and say what it wants."""


class Deadline:
    """How long a read may take in total, however its bytes trickle in. TimeoutError from `check`.

    `from_first_byte`: the time runs from the first byte on, so an idle peer is not at fault.
    """

    def __init__(self, seconds: float, *, from_first_byte: bool = False) -> None:
        self.seconds = seconds
        self.at = math.inf if from_first_byte else time.monotonic() + seconds

    def heard(self) -> None:
        if self.at == math.inf:
            self.at = time.monotonic() + self.seconds

    def check(self) -> None:
        if time.monotonic() > self.at:
            raise TimeoutError(f"not finished within {self.seconds:g} s")


FOREVER = Deadline(math.inf)


def tune(sock: socket.socket) -> None:
    """No delay for small messages, large buffers, and a dead host noticed within about ten seconds."""
    sock.settimeout(None)
    ticks = struct.pack("ll", 0, int(TICK_SECONDS * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, ticks)  # of reads alone: a socket's timeout would end sends too
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 3), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 10_000)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    # Setting SO_RCVBUF would end the kernel's own growth of the window, which goes further than most limits allow.
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < SEND_BUFFER <= _limit("wmem_max"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)


def _limit(name: str) -> int:
    try:
        return int(Path(f"/proc/sys/net/core/{name}").read_text())
    except (OSError, ValueError):
        return 0


class Wire:
    """A plain byte pipe. `received` counts the bytes that came from the socket."""

    peer: str | None = None
    """The role that the other end has proved, if it has."""
    serial: int | None = None
    """The serial number of the certificate that proved it."""

    def __init__(self, sock: socket.socket) -> None:
        tune(sock)
        self.socket = sock
        self.received = 0

    def read_into(self, view: memoryview, deadline: Deadline = FOREVER) -> None:
        """Fill the view. EOFError when the peer has closed, TimeoutError past the deadline."""
        while view.nbytes:
            try:
                count = self.socket.recv_into(view, view.nbytes, socket.MSG_WAITALL)
            except BlockingIOError:
                deadline.check()
                continue
            if count == 0:
                raise EOFError
            self.received += count
            view = view[count:]
            if view.nbytes:
                deadline.heard()
                deadline.check()

    def gone(self) -> bool:
        """Whether the peer has closed the connection: a look that takes no byte and does not wait."""
        try:
            return self.socket.recv(1, socket.MSG_PEEK | NO_WAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def sealed(self, parts: Sequence[Buffer]) -> Iterator[Sequence[Buffer]]:
        """What goes to the socket for these parts, part by part."""
        yield parts

    def push(self, buffers: Sequence[Buffer]) -> list[memoryview]:
        """Send what the socket takes at once; give the rest."""
        try:
            count = self.socket.sendmsg(buffers, [], NO_WAIT)
        except BlockingIOError:
            count = 0
        rest = []
        for buffer in buffers:
            view = memoryview(buffer)
            rest += [view[count:]] if count < view.nbytes else []
            count = max(0, count - view.nbytes)
        return rest

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Send all, waiting."""
        for buffer in buffers:
            self.socket.sendall(buffer)

    def close(self) -> None:
        """Wakes whoever waits on the socket."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


class TlsWire(Wire):
    """A byte pipe under TLS. The peer's certificate must come from our authority and name one of the roles `expected`.

    `peer` is the role that it names.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        expected: Collection[str],
        *,
        server: bool,
        deadline: Deadline | None = None,
    ) -> None:
        """`context`: of Identity.context. `deadline`: for the whole TLS handshake."""
        super().__init__(sock)
        self._lock = threading.Lock()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=server)
        self._authenticate(expected, deadline or Deadline(HANDSHAKE_SECONDS))

    def _authenticate(self, expected: Collection[str], deadline: Deadline) -> None:
        names = " or ".join(expected)
        where = f"TLS with the {names}"
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    self._flush()
                    self._feed(deadline)
                    deadline.check()
        except ssl.SSLError as error:
            self._flush()  # the alert that tells the peer
            raise _unauthenticated(error, names, where) from None
        self._flush()
        certificate = self._tls.getpeercert() or {}
        self.peer, self.serial = role_of(certificate), int(str(certificate.get("serialNumber", "0")), 16)
        if self.peer not in expected:
            raise SecurityError(f"the certificate is that of {self.peer!r}, {names} was expected", where=where)

    def _flush(self) -> None:
        data = self._out.read()
        if data:
            self.socket.sendall(data)

    def _feed(self, deadline: Deadline) -> None:
        while True:
            try:
                data = self.socket.recv(1 << 18)
                break
            except BlockingIOError:
                deadline.check()
        if not data:
            raise EOFError
        self.received += len(data)
        deadline.heard()
        with self._lock:
            self._in.write(data)

    def read_into(self, view: memoryview, deadline: Deadline = FOREVER) -> None:
        while view.nbytes:
            try:
                with self._lock:
                    count = self._tls.read(view.nbytes, view)
            except ssl.SSLWantReadError:
                deadline.check()
                self._feed(deadline)
                continue
            except ssl.SSLError as error:
                raise _broken(error) from None
            if not count:
                raise EOFError
            deadline.heard()
            view = view[int(count) :]

    def sealed(self, parts: Sequence[Buffer]) -> Iterator[Sequence[Buffer]]:
        views = [memoryview(part) for part in parts]
        slices = [view[i : i + TLS_BYTES] for view in views for i in range(0, view.nbytes, TLS_BYTES)]
        for position, part in enumerate(slices):
            with self._lock:
                self._tls.write(part)
                data = self._out.read() if self._out.pending >= TLS_BYTES or position == len(slices) - 1 else b""
            if data:
                yield [data]


def role_of(certificate: Mapping[str, Any]) -> str:
    """The common name of a certificate."""
    names = [value for relative in certificate.get("subject", ()) for key, value in relative if key == "commonName"]
    return str(names[0]) if len(names) == 1 else ""


EXPIRED, NOT_YET_VALID = 10, 9
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED and X509_V_ERR_CERT_NOT_YET_VALID (x509_vfy.h)."""


def _unauthenticated(error: ssl.SSLError, names: str, where: str) -> SecurityError:
    """Why the other end's certificate was not accepted, or ours not by the other end."""
    code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else None
    if code == EXPIRED:
        return SecurityError(f"the certificate of the {names} has expired", where=where, hint=AGAIN)
    if code == NOT_YET_VALID:
        return SecurityError(f"the certificate of the {names} is not valid yet", where=where, hint="Compare the clocks.")
    if "ALERT" in (error.reason or ""):
        return _refused(error, where)
    return SecurityError(f"{names} could not be authenticated: {error.reason or error}", where=where, hint=KEYS)


def _broken(error: ssl.SSLError) -> Exception:
    """What an error while reading means. TLS 1.3 tells a client only here that its certificate was refused."""
    if isinstance(error, ssl.SSLZeroReturnError | ssl.SSLEOFError):
        return EOFError()
    if "ALERT" in (error.reason or ""):
        return _refused(error, "TLS")
    return ConnectionError(f"TLS: {error.reason or error}")


def _refused(error: ssl.SSLError, where: str) -> SecurityError:
    if "CERTIFICATE_EXPIRED" in (error.reason or ""):
        return SecurityError("the other side says that our certificate has expired", where=where, hint=AGAIN)
    return SecurityError(f"the other side refused our certificate: {error.reason}", where=where, hint=KEYS)
