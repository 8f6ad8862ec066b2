"""The hostile peer of the soak test: everything that strangers and faithless clients did to the service, in turns.

Loopback only, and bounded: it holds at most some 400 connections, and ends with the process that forked it.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mpcc.errors import MpccError
from mpcc.runtime.net.connect import Address, PeerConfig
from mpcc.runtime.net.handshake import Terms, receive, started
from mpcc.runtime.net.identity import Identity
from mpcc.runtime.net.transport import HEADER, Phase
from mpcc.runtime.net.wire import Deadline, Wire

BURST = 200
"""Connections at once."""
HALF_OPEN = 100


@dataclass
class Hostile:
    """What it knows: the addresses, a certificate of another authority, and that of a client (which turns on the service)."""

    addresses: dict[str, Address]
    stranger: Path
    client: Path
    terms: Terms
    done: dict[str, int] = field(default_factory=dict)
    _held: list[socket.socket] = field(default_factory=list)

    def run(self, report: Path, seconds: float = 3600.0) -> None:
        """Attack until killed; how often each attack was made is written down as it goes."""
        parent, end = os.getppid(), time.monotonic() + seconds
        attacks: list[Callable[[], None]] = [
            self.rubbish,
            self.slow_drip,
            self.half_open,
            self.burst,
            self.wrong_certificates,
            self.deep_message,
            self.leaves_its_turn,
            self.dies_in_its_first_message,
        ]
        while os.getppid() == parent and time.monotonic() < end:
            attack = random.choice(attacks)
            try:
                attack()
            except (OSError, MpccError, EOFError):
                pass  # refused, as it should be
            self.done[attack.__name__] = self.done.get(attack.__name__, 0) + 1
            report.write_text("\n".join(f"{name} {count}" for name, count in sorted(self.done.items())))
            time.sleep(random.uniform(0.0, 0.1))

    def rubbish(self) -> None:
        with self._connect() as sock:
            sock.sendall(random.choice([b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000), bytes(100), b"\x16\x03\x01\x40\x00"]))

    def slow_drip(self) -> None:
        """A byte to each of those that are held."""
        for sock in [self._connect(), *self._held[-20:]]:
            self._held.append(sock)
            sock.sendall(b"\x16")

    def half_open(self) -> None:
        for _ in range(10):
            self._held.append(self._connect())
        while len(self._held) > HALF_OPEN:
            self._held.pop(0).close()

    def burst(self) -> None:
        sockets = []
        try:
            for _ in range(BURST):
                sockets.append(self._connect())
        finally:
            for sock in sockets:
                sock.close()

    def wrong_certificates(self) -> None:
        for role in ("server", "dealer"):
            PeerConfig("client", self.addresses, Identity.of(self.stranger, "client"), connect_seconds=0.0).meet(role, self.terms)

    def deep_message(self) -> None:
        """With a certificate that is accepted: only then is a message read at all."""
        config = self._faithless()
        wire = config.connect_with_retry("server")
        for part in wire.sealed([struct.pack("<I", 4000) + b"[" * 4000]):
            wire.write(part)
        wire.close()

    def leaves_its_turn(self) -> None:
        wire, _ = self._faithless().meet("server", self.terms)
        self._turn_of(wire)
        wire.close()

    def dies_in_its_first_message(self) -> None:
        config = self._faithless()
        server, _ = config.meet("server", self.terms)
        session = self._turn_of(server)
        terms = Terms(self.terms.program, self.terms.model, session)
        dealer, _ = config.meet("dealer", terms)
        started(server, session)
        for part in server.sealed([HEADER.pack(1, Phase.ONLINE, 0, 0, 0, 640, 0.0), bytes(320)]):
            server.write(part)
        if random.random() < 0.5:
            time.sleep(1.0)
        server.close()
        dealer.close()

    def _turn_of(self, wire: Wire) -> str:
        deadline = Deadline(30)
        while (message := receive(wire, ("queued", "start"), "hostile", deadline))["kind"] == "queued":
            if random.random() < 0.3:
                raise EOFError
        return str(message["session id"])

    def _faithless(self) -> PeerConfig:
        return PeerConfig("client", self.addresses, Identity.of(self.client, "client"), connect_seconds=0.0)

    def _connect(self) -> socket.socket:
        return socket.create_connection(self.addresses[random.choice(("server", "dealer"))], timeout=1.0)
