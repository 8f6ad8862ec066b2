"""Byte pipes over a connected TCP socket, plain or under TLS 1.3 with both sides authenticated.

A wire has one reader thread and one sender at a time, at once. OpenSSL allows no two calls on one connection, so under
TLS the encryption is done in memory, under a lock, and the socket is used outside of it.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpcc.errors import SecurityError

Buffer = bytes | bytearray | memoryview
CHUNK = 1 << 20
SEND_BUFFER = 4 << 20
KEYS = "All certificates must come from one authority: make a set with `mpcc keys`."
NO_WAIT = socket.MSG_DONTWAIT
HANDSHAKE_SECONDS = 10.0


def tune(sock: socket.socket) -> None:
    """No delay for small messages, large buffers, and a dead host noticed within about ten seconds."""
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
    """A plain byte pipe. `sent` and `received` count the bytes on the socket."""

    peer: str | None = None
    """The role that the other end has proved, if it has."""

    def __init__(self, sock: socket.socket) -> None:
        tune(sock)
        self.socket = sock
        self.sent = self.received = 0

    def read_into(self, view: memoryview) -> None:
        """Fill the view; EOFError when the peer has closed."""
        while view.nbytes:
            count = self.socket.recv_into(view, view.nbytes, socket.MSG_WAITALL)
            if count == 0:
                raise EOFError
            self.received += count
            view = view[count:]

    def sealed(self, parts: Sequence[Buffer]) -> Iterator[Sequence[Buffer]]:
        """What goes to the socket for these parts, piece by piece."""
        yield parts

    def push(self, buffers: Sequence[Buffer]) -> list[memoryview]:
        """Send what the socket takes at once; give the rest."""
        try:
            count = self.socket.sendmsg(buffers, [], NO_WAIT)
        except BlockingIOError:
            count = 0
        self.sent += count
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
            self.sent += memoryview(buffer).nbytes

    def close(self) -> None:
        """Wakes whoever waits on the socket."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


@dataclass(frozen=True)
class Identity:
    """Files (PEM) with which a role proves itself: its certificate, its key, and the one authority that it trusts."""

    certificate: Path
    key: Path
    authority: Path

    @staticmethod
    def of(folder: Path, role: str) -> Identity:
        """The files that `mpcc keys` makes: `folder` is a role's own, or the one that holds a folder a role."""
        place = folder / role if (folder / role).is_dir() else folder
        return Identity(place / "certificate.pem", place / "key.pem", place / "authority.pem")

    def context(self, *, server: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the certificate names a role, not a host: see TlsWire
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(self.authority)
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise SecurityError(
                f"the certificate files cannot be used: {error}",
                where=str(self.certificate.parent),
                hint=KEYS,
            ) from None
        return context


class TlsWire(Wire):
    """A byte pipe under TLS. The peer's certificate must come from our authority and name one of the roles `expected`.

    `peer` is the role that it names.
    """

    def __init__(self, sock: socket.socket, identity: Identity, expected: Collection[str], *, server: bool) -> None:
        super().__init__(sock)
        self._lock = threading.Lock()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = identity.context(server=server).wrap_bio(self._in, self._out, server_side=server)
        self.peer = self._authenticate(expected)

    def _authenticate(self, expected: Collection[str]) -> str:
        names = " or ".join(expected)
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        try:
            while True:
                if time.monotonic() > deadline:  # byte by byte: nobody may hold the door
                    raise SecurityError(f"{names} did not finish the handshake", where=f"TLS with {names}", hint=KEYS)
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    self._flush()
                    self._feed()
        except ssl.SSLError as error:
            self._flush()  # the alert that tells the peer
            raise SecurityError(
                f"{names} could not be authenticated: {error.reason or error}", where=f"TLS with {names}", hint=KEYS
            ) from None
        self._flush()
        name = role_of(self._tls.getpeercert() or {})
        if name not in expected:
            raise SecurityError(f"the certificate is that of {name!r}, {names} was expected", where=f"TLS with {names}")
        return name

    def _flush(self) -> None:
        data = self._out.read()
        if data:
            self.socket.sendall(data)
            self.sent += len(data)

    def _feed(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise EOFError
        self.received += len(data)
        with self._lock:
            self._in.write(data)

    def read_into(self, view: memoryview) -> None:
        while view.nbytes:
            try:
                with self._lock:
                    count = self._tls.read(view.nbytes, view)
            except ssl.SSLWantReadError:
                self._feed()
                continue
            except ssl.SSLError as error:
                if isinstance(error, ssl.SSLZeroReturnError | ssl.SSLEOFError):
                    raise EOFError from None
                if "ALERT" in (error.reason or ""):
                    raise SecurityError(f"the other side refused: {error.reason}", where="TLS", hint=KEYS) from None
                raise ConnectionError(f"TLS: {error.reason or error}") from None
            if not count:
                raise EOFError
            view = view[int(count) :]

    def sealed(self, parts: Sequence[Buffer]) -> Iterator[Sequence[Buffer]]:
        views = [memoryview(part) for part in parts]
        pieces = [view[i : i + CHUNK] for view in views for i in range(0, view.nbytes, CHUNK)]
        for position, piece in enumerate(pieces):
            with self._lock:
                self._tls.write(piece)
                data = self._out.read() if self._out.pending >= CHUNK or position == len(pieces) - 1 else b""
            if data:
                yield [data]


def role_of(certificate: Mapping[str, Any]) -> str:
    """The common name of a certificate."""
    names = [value for relative in certificate.get("subject", ()) for key, value in relative if key == "commonName"]
    return str(names[0]) if len(names) == 1 else ""
