"""One party or the dealer on a machine of its own.

    peers = PeerConfig("client", addresses, Identity.of(Path("keys"), "client"))     # likewise "server", "dealer"
    outcomes = run_party(program, version, PartyConfig(peers), inputs=[(image,)])

The dealer listens for both parties, the server for the client; each may start first. Without TLS only this machine's own
addresses are allowed. CrypTen gives the encoder here, not the network: its own link would be plain TCP.
"""

from __future__ import annotations

import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from mpcc.errors import MpccError, PartyError, UsageError
from mpcc.program.check import check_masks
from mpcc.program.program import Program

from ..dealer.files import FromFile
from ..engine.evaluate import decode
from ..net.connect import ROLES, PeerConfig
from ..net.handshake import CLIENT, DEALER, SERVER, Terms, handshake, refuse
from ..net.wire import Wire
from .participant import Participant, Report
from .process import at_work
from .session import Outcome

Notice = Callable[[str], None]
Inputs = Iterable[Sequence[Tensor]]


@dataclass(frozen=True)
class PartyConfig:
    """How a role takes part. `peers`: who it is and how it reaches the others.

    `sessions`: how many sessions the server and the dealer serve (None: until they are stopped; a failed one is reported
    by `notice` and the next begins). `material`: this party's file of `deal_to_files`, used instead of a dealer.
    `insecure_dealer`: the server makes the correlated randomness itself and can read the client's input. `ahead`: how
    many inferences the client asks the dealer for ahead of their inputs. `timeout`: seconds of silence within an
    inference after which a peer is given up. `report` is called at the server after each inference, `result` at the
    client.
    """

    peers: PeerConfig
    sessions: int | None = 1
    material: Path | None = None
    insecure_dealer: bool = False
    ahead: int = 2
    threads: int = 1
    timeout: float = 120.0
    report: Callable[[Report], None] = lambda _: None
    result: Callable[[Outcome], None] = lambda _: None
    notice: Notice = lambda text: print(text, file=sys.stderr)

    @property
    def role(self) -> str:
        return self.peers.role

    def check(self) -> None:
        """UsageError for a combination that means nothing; SecurityError for links that nothing protects."""
        if self.role not in ROLES:
            raise UsageError(f"unknown role {self.role!r}", hint=f"one of {', '.join(ROLES)}")
        if self.material is not None and (self.insecure_dealer or self.role == DEALER or self.sessions != 1):
            raise UsageError("a material file serves one session of the server or the client, without a dealer")
        if missing := [role for role in self.roles if role not in self.peers.addresses]:
            raise UsageError(f"no address for the {' and the '.join(missing)}")
        self.peers.check()

    @property
    def roles(self) -> list[str]:
        """The roles of the session."""
        return [role for role in ROLES if role != DEALER or not (self.insecure_dealer or self.material)]


class Listener:
    """Where a role listens. While a session runs, whoever knocks is told that it is busy."""

    def __init__(self, peers: PeerConfig, notice: Notice) -> None:
        host, port = peers.addresses[peers.role]
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self.socket = socket.create_server((host, port), family=family, backlog=8)
        except OSError as error:
            raise PartyError(f"cannot listen at {host}:{port} ({error})", where=peers.role) from None
        self.peers, self.notice = peers, notice
        self._busy: threading.Thread | None = None
        self._open = True

    def accept(self, expected: Sequence[str], terms: Terms, deadline: float | None) -> tuple[str, Wire, Terms]:
        """The next peer that belongs here. Strangers are turned away and the wait goes on."""
        last = ""
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            try:
                self.socket.settimeout(None if left is None else max(0.01, left))
                sock, address = self.socket.accept()
            except TimeoutError:
                names = " and ".join(expected)
                raise PartyError(f"{names} did not come{last}", where=self.peers.role) from None
            try:
                wire = self.peers.wire(sock, expected, server=True)
            except (MpccError, OSError) as error:
                last = self._refused(sock, address[0], error)
                continue
            try:
                role, agreed = handshake(wire, self.peers.role, expected, terms)
            except PartyError as error:  # it hung up or said nothing: no peer of ours
                last = self._refused(sock, address[0], error)
                continue
            return role, wire, agreed

    def _refused(self, sock: socket.socket, host: str, error: Exception) -> str:
        self.notice(f"{self.peers.role}: refused {host}: {error}")
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
                refuse(self.peers.wire(sock, ROLES, server=True), "busy: a session is running")
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


def run_party(program: Program, model_version: str, config: PartyConfig, inputs: Inputs = ()) -> list[Outcome]:
    """Take part in one session (`config.sessions`: in several); the client's outcomes, nothing for the others.

    `inputs`: what the client asks, one inference each. SecurityError, PartyError, ShapeError, UsageError.
    """
    config.check()
    check_masks(program)
    at_work(config.threads)
    source = None if config.material is None else FromFile(program, ROLES.index(config.role), config.material, model_version)
    terms = Terms(program.digest, model_version, None if source is None else source.session, config.insecure_dealer)
    if config.role == CLIENT:
        return _client(config, program, terms, inputs, source)
    done = 0
    while config.sessions is None or done < config.sessions:
        try:
            _serve(config, program, terms, source)
        except MpccError as error:
            if config.sessions is not None:
                raise
            config.notice(f"the session has failed: {error}")
        done += 1
    return []


def _serve(config: PartyConfig, program: Program, terms: Terms, material: FromFile | None) -> None:
    """One session of the server or the dealer."""
    patient = config.sessions is None
    deadline = None if patient else time.monotonic() + config.peers.connect_seconds
    listener = Listener(config.peers, config.notice)
    wires: dict[str, Wire] = {}
    try:
        if DEALER not in config.roles or config.role == DEALER:
            terms = terms if terms.session else replace(terms, session=secrets.token_hex(16))
        expected = [SERVER, CLIENT] if config.role == DEALER else [CLIENT]
        if config.role == SERVER and DEALER in config.roles:
            wires[DEALER] = _connect(config.peers, DEALER, patient)
            terms = handshake(wires[DEALER], config.role, (DEALER,), terms)[1]
        while expected:
            peer, wires[peer], terms = listener.accept(expected, terms, deadline)
            expected.remove(peer)
        listener.busy()
        participant = Participant(config.role, program, terms, wires, timeout=config.timeout, material=material)
        try:
            if config.role == DEALER:
                participant.deal()
            else:
                participant.set_up()
                participant.serve(config.report)
        except BaseException as error:
            participant.peers.abort(error)
            raise
    finally:
        for wire in wires.values():
            wire.close()
        listener.close()


def _connect(peers: PeerConfig, peer: str, patient: bool) -> Wire:
    while True:
        try:
            return peers.connect_with_retry(peer)
        except PartyError:
            if not patient:
                raise


def _client(
    config: PartyConfig, program: Program, terms: Terms, inputs: Inputs, material: FromFile | None
) -> list[Outcome]:
    from ..crypten.borders import encode_inputs

    wires: dict[str, Wire] = {}
    try:
        for peer in (DEALER, SERVER) if DEALER in config.roles else (SERVER,):
            wires[peer] = config.peers.connect_with_retry(peer)
            terms = handshake(wires[peer], config.role, (peer,), terms)[1]
        participant = Participant(
            config.role, program, terms, wires, ahead=config.ahead, timeout=config.timeout, material=material
        )
        try:
            participant.set_up()
            outcomes = []
            for values in inputs:
                shares = encode_inputs(program, list(values))
                participant.prepare()
                totals, took = participant.run(shares)
                outputs = [decode(t, scale) for t, (_, scale) in zip(totals, program.outputs, strict=True)]
                outcomes.append(
                    Outcome(outputs, took.rounds, took.bytes, took.seconds, took.offline_seconds, took.offline_bytes)
                )
                config.result(outcomes[-1])
            participant.leave()
        except BaseException as error:
            participant.peers.abort(error)
            raise
        return outcomes
    finally:
        for wire in wires.values():
            wire.close()


