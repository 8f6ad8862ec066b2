"""One party or the dealer on a machine of its own.

    run_party(program, version, "server", peers, identity=Identity.of(Path("keys"), "server"))     # party 0
    run_party(program, version, "dealer", peers, identity=...)
    run_party(program, version, "client", peers, identity=..., inputs=[(image,)])                  # party 1 -> outcomes

The dealer listens for both parties, party 0 for the client; each may start first. Without TLS only this machine's own
addresses are allowed. CrypTen gives the encoder here, not the network: its own link would be plain TCP.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mpcc.errors import MpccError, PartyError, SecurityError, UsageError
from mpcc.program.check import check_masks
from mpcc.program.program import Program

from ..dealer.files import FromFile
from ..engine.evaluate import decode
from ..net.handshake import CLIENT, DEALER, OWNER, Terms, greet, refuse, title
from ..net.wire import KEYS, Identity, TlsWire, Wire
from .participant import Participant, Report
from .process import at_work
from .session import Outcome

ROLES = (OWNER, CLIENT, DEALER)
Address = tuple[str, int]
Notice = Callable[[str], None]
Inputs = Iterable[Sequence[Tensor]]


def parse_peers(text: str) -> dict[str, Address]:
    """`owner:7000,client:7001,dealer:7002` -> addresses by role, in this order; the dealer's may be left out."""
    parts = [part.strip() for part in text.split(",")]
    hint = "give party 0, party 1 and the dealer: host:port,host:port,host:port"
    if len(parts) not in (2, 3):
        raise UsageError(f"{len(parts)} peers in {text!r}", hint=hint)
    found: dict[str, Address] = {}
    for role, part in zip(ROLES, parts, strict=False):
        host, colon, port = part.rpartition(":")
        if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise UsageError(f"{part!r} is not host:port", hint=hint)
        found[role] = (host.strip("[]"), int(port))
    return found


@dataclass(frozen=True)
class Reach:
    """How this role meets the others. `allow_plain`: links to other machines without TLS, for tests only."""

    role: str
    peers: Mapping[str, Address]
    identity: Identity | None = None
    allow_plain: bool = False
    connect_seconds: float = 60.0
    notice: Notice = lambda text: print(text, file=sys.stderr)

    def check(self) -> None:
        if self.identity is not None:
            self.identity.context(server=False)
        elif not self.allow_plain and not all(_local(host) for host, _ in self.peers.values()):
            raise SecurityError("a link to another machine needs TLS", where=title(self.role), hint=KEYS)

    def connect(self, peer: str) -> Wire:
        """Knock until the peer listens."""
        deadline = time.monotonic() + self.connect_seconds
        while True:
            try:
                sock = socket.create_connection(self.peers[peer], timeout=5.0)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    host, port = self.peers[peer]
                    raise PartyError(
                        f"{title(peer)} does not answer at {host}:{port} ({error})", where=title(self.role)
                    ) from None
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
            names = " or ".join(title(role) for role in expected)
            raise PartyError(f"{names} closed the connection ({error or 'TLS'})", where=title(self.role)) from None


class Door:
    """Where a role listens. While a session runs, whoever knocks is told that it is busy."""

    def __init__(self, reach: Reach) -> None:
        host, port = reach.peers[reach.role]
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self.socket = socket.create_server((host, port), family=family, backlog=8)
        except OSError as error:
            raise PartyError(f"cannot listen at {host}:{port} ({error})", where=title(reach.role)) from None
        self.reach = reach
        self._busy: threading.Thread | None = None
        self._open = True

    def admit(self, expected: Sequence[str], terms: Terms, deadline: float | None) -> tuple[str, Wire, Terms]:
        """The next peer that belongs here. Strangers are turned away and the wait goes on."""
        last = ""
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            try:
                self.socket.settimeout(None if left is None else max(0.01, left))
                sock, address = self.socket.accept()
            except TimeoutError:
                names = " and ".join(title(role) for role in expected)
                raise PartyError(f"{names} did not come{last}", where=title(self.reach.role)) from None
            try:
                wire = self.reach.wire(sock, expected, server=True)
            except (MpccError, OSError) as error:
                last = self._refused(sock, address[0], error)
                continue
            try:
                role, agreed = greet(wire, self.reach.role, expected, terms)
            except PartyError as error:  # it hung up or said nothing: no peer of ours
                last = self._refused(sock, address[0], error)
                continue
            return role, wire, agreed

    def _refused(self, sock: socket.socket, host: str, error: Exception) -> str:
        self.reach.notice(f"{title(self.reach.role)}: refused {host}: {error}")
        sock.close()
        return f"; {host} was refused: {error}"

    def busy(self) -> None:
        """Refuse all who come from now on."""
        self._busy = threading.Thread(target=self._refuse, daemon=True)
        self._busy.start()

    def _refuse(self) -> None:
        self.socket.settimeout(0.2)
        while self._open:
            try:
                sock, _ = self.socket.accept()
            except OSError:
                continue
            try:
                refuse(self.reach.wire(sock, ROLES, server=True), "busy: a session is running")
                sock.settimeout(2.0)
                sock.recv(1 << 14)  # its hello; closing with it unread would take back the answer
            except (OSError, EOFError, MpccError):
                pass
            sock.close()

    def close(self) -> None:
        self._open = False
        if self._busy is not None:
            self._busy.join(1.0)
        self.socket.close()


def run_party(
    program: Program,
    model_version: str,
    role: str,
    peers: Mapping[str, Address],
    *,
    identity: Identity | None = None,
    inputs: Inputs = (),
    insecure_dealer: bool = False,
    material: Path | None = None,
    allow_plain: bool = False,
    connect_seconds: float = 60.0,
    timeout: float = 120.0,
    threads: int = 1,
    ahead: int = 2,
    sessions: int | None = 1,
    report: Callable[[Report], None] = lambda _: None,
    result: Callable[[Outcome], None] = lambda _: None,
    notice: Notice = lambda text: print(text, file=sys.stderr),
) -> list[Outcome]:
    """Take part in a session as `role`; the client's outcomes (nothing for the others).

    `inputs`: what the client asks, one inference each. `sessions`: how many the owner and the dealer serve (None: until
    they are stopped; a failed one is reported by `notice` and the next begins). `ahead`: how many inferences the dealer
    prepares ahead. `material`: this party's file of `deal_to_files`, instead of a dealer. SecurityError, PartyError,
    ShapeError.
    """
    if role not in ROLES:
        raise UsageError(f"{role!r} is no role", hint=f"one of {', '.join(ROLES)}")
    if material is not None and (insecure_dealer or role == DEALER or sessions != 1):
        raise UsageError("a file of material serves one session of the owner or the client, without a dealer")
    wanted = [r for r in ROLES if not ((insecure_dealer or material) and r == DEALER)]
    if missing := [r for r in wanted if r not in peers]:
        raise UsageError(f"no address for {', '.join(title(r) for r in missing)}")
    check_masks(program)
    at_work(threads)
    reach = Reach(role, {r: peers[r] for r in wanted}, identity, allow_plain, connect_seconds, notice)
    reach.check()
    source = None if material is None else FromFile(program, ROLES.index(role), material, model_version)
    terms = Terms(program.digest, model_version, None if source is None else source.session, insecure_dealer)
    if role == CLIENT:
        return _client(reach, program, terms, inputs, {"ahead": ahead, "timeout": timeout, "material": source}, result)
    done = 0
    while sessions is None or done < sessions:
        try:
            _serve(reach, program, terms, {"timeout": timeout, "material": source}, report, patient=sessions is None)
        except MpccError as error:
            if sessions is not None:
                raise
            notice(f"the session has failed: {error}")
        done += 1
    return []


def _serve(
    reach: Reach,
    program: Program,
    terms: Terms,
    options: dict[str, Any],
    report: Callable[[Report], None],
    *,
    patient: bool,
) -> None:
    """One session of the owner or the dealer. `patient`: wait for the others without a limit."""
    deadline = None if patient else time.monotonic() + reach.connect_seconds
    door = Door(reach)
    wires: dict[str, Wire] = {}
    try:
        if DEALER not in reach.peers or reach.role == DEALER:
            terms = terms if terms.session else replace(terms, session=secrets.token_hex(16))
        expected = [OWNER, CLIENT] if reach.role == DEALER else [CLIENT]
        if reach.role == OWNER and DEALER in reach.peers:
            wires[DEALER] = _knock(reach, DEALER, patient)
            terms = greet(wires[DEALER], reach.role, (DEALER,), terms)[1]
        while expected:
            peer, wires[peer], terms = door.admit(expected, terms, deadline)
            expected.remove(peer)
        door.busy()
        member = Participant(reach.role, program, terms, wires, **options)
        try:
            if reach.role == DEALER:
                member.deal()
            else:
                member.set_up()
                member.serve(report)
        except BaseException as error:
            member.peers.abort(error)
            raise
    finally:
        for wire in wires.values():
            wire.close()
        door.close()


def _knock(reach: Reach, peer: str, patient: bool) -> Wire:
    while True:
        try:
            return reach.connect(peer)
        except PartyError:
            if not patient:
                raise


def _client(
    reach: Reach,
    program: Program,
    terms: Terms,
    inputs: Inputs,
    options: dict[str, Any],
    result: Callable[[Outcome], None],
) -> list[Outcome]:
    from ..crypten.borders import encode_inputs

    wires: dict[str, Wire] = {}
    try:
        for peer in (DEALER, OWNER) if DEALER in reach.peers else (OWNER,):
            wires[peer] = reach.connect(peer)
            terms = greet(wires[peer], reach.role, (peer,), terms)[1]
        member = Participant(reach.role, program, terms, wires, **options)
        try:
            member.set_up()
            outcomes = []
            for values in inputs:
                shares = encode_inputs(program, list(values))
                member.prepare()
                totals, took = member.run(shares)
                outputs = [decode(t, scale) for t, (_, scale) in zip(totals, program.outputs, strict=True)]
                outcomes.append(
                    Outcome(outputs, took.rounds, took.bytes, took.seconds, took.offline_seconds, took.offline_bytes)
                )
                result(outcomes[-1])
            member.leave()
        except BaseException as error:
            member.peers.abort(error)
            raise
        return outcomes
    finally:
        for wire in wires.values():
            wire.close()


def _local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
