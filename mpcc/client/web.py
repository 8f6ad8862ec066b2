"""HTTP to one server: connections that are kept, TLS, and answers of known size, by the standard library alone."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mpcc import security
from mpcc.errors import PartyError, SecurityError, UsageError

MOST_DOCUMENT = 16 << 20
MOST_ERROR = 4096
MOST_IDLE = 8


@dataclass(frozen=True)
class Reply:
    """The status of an answer, its body, and after how many seconds the server would like to be asked again."""

    status: int
    body: bytes
    retry_after: float | None

    @property
    def reason(self) -> str:
        """What the server says is wrong."""
        try:
            return str(json.loads(self.body[:MOST_ERROR])["error"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return "no reason given"


class Site:
    """One server. Threads may share it; each call has a connection of its own."""

    def __init__(self, url: str, *, authority: str | Path | None = None, timeout: float, allow_plain: bool = False) -> None:
        """`authority`: a PEM file with the certificate that signs this server's; without, those that the system trusts."""
        parts = urlsplit(url if "//" in url else f"https://{url}")
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.query or parts.fragment:
            raise UsageError(f"{url!r} is not the address of a server", hint="https://host, or https://host:port/path")
        self.url, self.host, self.port, self.path = url, parts.hostname, port, parts.path.rstrip("/")
        self.timeout = timeout
        self.tls = self._context(authority) if parts.scheme == "https" else None
        if self.tls is None and not allow_plain and not security.is_this_machine(self.host):
            hint = "https://..., or allow_plain=True (--plain) where the network is your own"
            raise SecurityError("shares would cross the network unencrypted", where=url, hint=hint)
        self.sent = self.received = 0
        """Payload and headers, in bytes, without what TLS adds."""
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    @property
    def place(self) -> tuple[str, int | None, str]:
        return self.host, self.port, self.path

    def document(self, path: str) -> Any:
        """A JSON document."""
        reply = self.call("GET", path, b"", MOST_DOCUMENT)
        if reply.status != 200:
            raise PartyError(f"HTTP {reply.status}: {reply.reason}", where=self.url)
        try:
            return json.loads(reply.body)
        except (ValueError, RecursionError):
            raise PartyError("no JSON came: is this a server of mpcc?", where=self.url) from None

    def file(self, path: str, size: int) -> bytes:
        """A file of this size. PartyError."""
        reply = self.call("GET", path, b"", max(size, MOST_ERROR))
        if reply.status != 200 or len(reply.body) != size:
            said = f"HTTP {reply.status}: {reply.reason}" if reply.status != 200 else f"{len(reply.body)} bytes, {size} are due"
            raise PartyError(f"{path}: {said}", where=self.url)
        return reply.body

    def call(self, method: str, path: str, body: bytes, most: int, ticket: Ticket | None = None) -> Reply:
        """One request, whose answer has at most `most` bytes. PartyError, SecurityError."""
        connection, fresh = self._connection()
        ticket = ticket or Ticket()
        try:
            try:
                reply = self._exchange(ticket.through(connection), method, path, body, most)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                if fresh or ticket.ended:
                    raise
                connection.close()  # it was kept, and the server has closed it meanwhile: nothing was answered
                connection = self._made()
                reply = self._exchange(ticket.through(connection), method, path, body, most)
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise SecurityError(f"the certificate is not accepted: {error.verify_message}", where=self.url) from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise PartyError(f"not reached: {error or type(error).__name__}", where=self.url) from None
        with self._lock:
            if len(self._idle) < MOST_IDLE and connection.sock is not None:
                self._idle.append(connection)
            else:
                connection.close()
        return reply

    def close(self) -> None:
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def _exchange(self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes, most: int) -> Reply:
        connection.putrequest(method, self.path + path, skip_accept_encoding=True)
        if method == "POST":
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        found = answer.read(most + 1)
        if len(found) > most:
            raise http.client.HTTPException(f"an answer of more than {most} bytes")
        headers = sum(len(name) + len(value) + 4 for name, value in answer.getheaders())
        with self._lock:
            self.sent += len(body) + len(f"{method} {self.path}{path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n")
            self.received += len(found) + headers + len("HTTP/1.1 200 OK\r\n\r\n")
        wait = answer.getheader("Retry-After", "")
        return Reply(answer.status, found, float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 6 else None)

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            if self._idle:
                return self._idle.pop(), False
        return self._made(), True

    def _made(self) -> http.client.HTTPConnection:
        made: http.client.HTTPConnection
        if self.tls is None:
            made = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        else:
            made = http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout, context=self.tls)
        return made

    def _context(self, authority: str | Path | None) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=None if authority is None else str(authority))
        except (OSError, ssl.SSLError) as error:
            raise SecurityError(f"the certificate cannot be used: {error}", where=str(authority)) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


class Ticket:
    """A call that another thread may end."""

    def __init__(self) -> None:
        self.connection: http.client.HTTPConnection | None = None
        self.ended = False

    def through(self, connection: http.client.HTTPConnection) -> http.client.HTTPConnection:
        """The connection, which is opened and then named here. OSError where the call was ended meanwhile."""
        if connection.sock is None:
            connection.connect()
        self.connection = connection
        if self.ended:
            raise OSError("ended")
        return connection

    def end(self) -> None:
        """Wake whoever waits for the answer."""
        self.ended = True
        sock = None if self.connection is None else self.connection.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
