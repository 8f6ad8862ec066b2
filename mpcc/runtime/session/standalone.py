"""One party or the dealer on a machine of its own.

    peers = PeerConfig("client", addresses, Identity.of(Path("keys"), "client"))     # likewise "server", "dealer"
    outcomes = run_party(program, version, PartyConfig(peers), inputs=[(image,)])

The dealer listens for both parties, the server for clients, which it serves one after another; each may start first
(`net/handshake.py` says how they agree on a session). Without TLS only this machine's own addresses are allowed. CrypTen
gives the encoder here, not the network: its own link would be plain TCP.
"""

from __future__ import annotations

import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from mpcc.errors import MpccError, PartyError, UsageError
from mpcc.program.check import check_masks
from mpcc.program.program import Program

from ..dealer.files import FromFile
from ..device.card import device_of
from ..device.device import Device
from ..engine.evaluate import decode
from ..inputs import check_values
from ..net.connect import ROLES, PeerConfig, again_when_lost
from ..net.handshake import CLIENT, DEALER, SERVER, Terms, receive, refuse, session_id, start, started
from ..net.listener import Listener, Notice, Visitor
from ..net.messages import printable
from ..net.wire import Deadline, Wire
from .participant import Participant, Report
from .process import at_work
from .session import Outcome
from .waiting import ClientQueue, Pairing

Inputs = Iterable[Sequence[Tensor]]
START_SECONDS = 20.0
"""How long a client may take to meet the dealer, which the server has just met."""


@dataclass(frozen=True)
class PartyConfig:
    """How a role takes part. `peers`: who it is and how it reaches the others.

    `sessions`: how many sessions the server and the dealer serve (None: until they are stopped; a failed one is reported
    by `notice` and the next begins). `stop`: set it to end a service after the session that it is in. `material`: this
    party's file of `deal_to_files`, used instead of a dealer. `insecure_dealer`: the server makes the correlated
    randomness itself and can read the client's input. `ahead`: how many inferences the client asks the dealer for ahead
    of their inputs. `timeout`: seconds after which a peer that owes a message is given up; `idle_seconds`: after which the
    server gives up a client that asks nothing; `queue_seconds`: how long a client waits for its turn. `report` is called
    at the server after each inference, `result` at the client. `device`: where this role computes, by name.
    """

    peers: PeerConfig
    sessions: int | None = 1
    material: Path | None = None
    insecure_dealer: bool = False
    ahead: int = 2
    threads: int = 1
    timeout: float = 120.0
    idle_seconds: float = 600.0
    queue_seconds: float = 3600.0
    report: Callable[[Report], None] = lambda _: None
    result: Callable[[Outcome], None] = lambda _: None
    device: str = "cpu"
    stop: threading.Event = field(default_factory=threading.Event)
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

    def deadline(self) -> float | None:
        """Until when the next session must have begun; None for a service that waits for ever."""
        return None if self.sessions is None else time.monotonic() + self.peers.connect_seconds

    def goes_on(self, done: int) -> bool:
        """Whether another session is to be served after so many."""
        return not self.stop.is_set() and (self.sessions is None or done < self.sessions)

    def failed(self, error: Exception) -> None:
        """A failed session ends a service that has a stated number of them; an endless one goes on, whatever it was."""
        if self.sessions is not None:
            raise error
        text = str(error) if isinstance(error, MpccError) else "".join(traceback.format_exception(error))
        self.notice(f"{self.role}: the session has failed: {text}")


def run_party(program: Program, model_version: str, config: PartyConfig, inputs: Inputs = ()) -> list[Outcome]:
    """Take part in one session (`config.sessions`: in several); the client's outcomes, nothing for the others.

    `inputs`: what the client asks, one inference each. SecurityError, PartyError, ShapeError, UsageError.
    """
    config.check()
    check_masks(program)
    at_work(config.threads)
    device = device_of(config.device)
    source = None
    if config.material is not None:
        source = FromFile(program, ROLES.index(config.role), config.material, model_version, device)
    terms = Terms(program.digest, model_version, None if source is None else source.session, config.insecure_dealer)
    try:
        if config.role == CLIENT:
            return _run_as_client(config, program, terms, inputs, source, device)
        serve = _serve_as_dealer if config.role == DEALER else _serve_as_server
        serve(config, program, terms, source, device)
        return []
    finally:
        if source is not None:
            source.close()


def _serve_as_server(
    config: PartyConfig, program: Program, terms: Terms, material: FromFile | None, device: Device
) -> None:
    """One client after another. A client that is lost before its session has begun counts for nothing."""
    queue, done = ClientQueue(), 0
    listener = Listener(config.peers, (CLIENT,), terms, queue.arrived, tick=queue.tick, notice=config.notice)
    try:
        deadline = config.deadline()
        while config.goes_on(done):
            client = queue.next(deadline, config.stop)
            if client is None and config.stop.is_set():
                break
            if client is None:
                raise PartyError(f"the client did not come{listener.last_refusal}", where=SERVER)
            try:
                wires, agreed = _begin(config, client, terms)
            except ClientLost as error:
                config.notice(f"{SERVER}: {error}")
                continue
            except MpccError as error:
                config.failed(error)
                continue
            with _participant(config, program, agreed, wires, material, device) as participant:
                participant.set_up()
                participant.serve(config.report)
            done, deadline = done + 1, config.deadline()
    finally:
        listener.close()
        queue.close()


class ClientLost(PartyError):
    """A client has gone, or has not done its part, before its session had begun."""


def _begin(config: PartyConfig, client: Visitor, terms: Terms) -> tuple[dict[str, Wire], Terms]:
    """Meet the dealer for this client, and have the client meet it."""
    agreed = replace(terms, session=terms.session or secrets.token_hex(16))
    wires = {CLIENT: client.wire}
    assert agreed.session is not None
    try:
        if DEALER in config.roles:
            wires[DEALER] = config.peers.meet(DEALER, agreed)[0]
    except MpccError as error:
        refuse(client.wire, f"the dealer cannot be reached: {error.what}")
        client.wire.close()
        raise
    try:
        start(client.wire, agreed.session, Deadline(START_SECONDS))
    except MpccError as error:
        for wire in wires.values():
            wire.close()
        raise ClientLost(f"the session did not begin: {error.what}", where=error.where) from None
    return wires, agreed


def _serve_as_dealer(
    config: PartyConfig, program: Program, terms: Terms, material: FromFile | None, device: Device
) -> None:
    """The dealer's part of one session after another."""
    pairing, done = Pairing(), 0
    listener = Listener(
        config.peers, (SERVER, CLIENT), terms, pairing.arrived, tick=pairing.tick, notice=config.notice
    )
    try:
        deadline = config.deadline()
        while config.goes_on(done):
            pair = pairing.next(deadline, config.stop)
            if pair is None and config.stop.is_set():
                break
            if pair is None:
                raise PartyError(f"server and client did not come{listener.last_refusal}", where=DEALER)
            agreed = replace(terms, session=pair[0].session)
            wires = {half.role: half.wire for half in pair}
            with _participant(config, program, agreed, wires, None, device) as participant:
                participant.deal()
            done, deadline = done + 1, config.deadline()
    finally:
        listener.close()
        pairing.close()


@contextmanager
def _participant(
    config: PartyConfig, program: Program, terms: Terms, wires: dict[str, Wire], material: FromFile | None, device: Device
) -> Iterator[Participant]:
    """A participant whose failure is told to all, and, where sessions have no end, is only reported."""
    participant = Participant(
        config.role,
        program,
        terms,
        wires,
        ahead=config.ahead,
        timeout=config.timeout,
        idle=config.idle_seconds if config.role == SERVER else None,
        material=material,
        device=device,
    )
    try:
        yield participant
    except BaseException as error:
        participant.peers.abort(error)
        if not isinstance(error, Exception) or config.role == CLIENT:
            raise
        config.failed(error)
    finally:
        for wire in wires.values():
            wire.close()


def _run_as_client(
    config: PartyConfig, program: Program, terms: Terms, inputs: Inputs, material: FromFile | None, device: Device
) -> list[Outcome]:
    from ..crypten.borders import encode_inputs

    wires, agreed = again_when_lost(lambda: _join(config, terms))
    outcomes: list[Outcome] = []
    with _participant(config, program, agreed, wires, material, device) as participant:
        participant.set_up()
        for values in inputs:
            check_values(program, values)
            shares = encode_inputs(program, list(values))
            participant.prepare()
            totals, took = participant.run(shares)
            outputs = [decode(t, scale) for t, (_, scale) in zip(totals, program.outputs, strict=True)]
            outcomes.append(
                Outcome(outputs, took.rounds, took.bytes, took.seconds, took.offline_seconds, took.offline_bytes)
            )
            config.result(outcomes[-1])
        participant.leave()
    return outcomes


def _join(config: PartyConfig, terms: Terms) -> tuple[dict[str, Wire], Terms]:
    """The client's way into a session: the server's queue, then the dealer."""
    wires: dict[str, Wire] = {}
    try:
        wires[SERVER], agreed = config.peers.meet(SERVER, terms)
        session = _await_start(wires[SERVER], agreed.session, config)
        agreed = replace(agreed, session=session)
        if DEALER in config.roles:
            wires[DEALER] = config.peers.meet(DEALER, agreed)[0]
        started(wires[SERVER], session)
        return wires, agreed
    except BaseException:
        for wire in wires.values():
            wire.close()
        raise


def _await_start(server: Wire, session: str | None, config: PartyConfig) -> str:
    """Wait for this client's turn, telling its place in the queue."""
    where, deadline = f"{CLIENT}: waiting for the server", Deadline(config.queue_seconds)
    while True:
        message = receive(server, ("queued", "start"), where, deadline)
        if message["kind"] == "start":
            return session_id(message, session, where)
        config.notice(f"the server is busy: place {printable(message.get('ahead'))} in its queue")
