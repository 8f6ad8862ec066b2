"""The helper: the second server, of another organisation. It owns nothing, holds one share of each request, and follows.

It opens the sessions: `in_flight` lanes of each batch size, each opened anew when it fails.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace

from mpcc.runtime.net.connect import again_when_lost
from mpcc.runtime.net.handshake import DEALER, SERVER, Terms, receive, session_id, started
from mpcc.runtime.net.messages import say
from mpcc.runtime.net.transport import Phase, Slot, empty
from mpcc.runtime.net.wire import Deadline, Wire
from mpcc.runtime.session.participant import Participant

from .config import ServeConfig
from .desk import Desk, Refused, Request
from .log import Log
from .served import ID_BYTES, WORD, Served, Words
from .server import START_SECONDS, TICK_SECONDS, ids_of
from .service import Service


class HelperService(Service):
    """Party 1 for any number of clients."""

    def __init__(self, served: Served, config: ServeConfig, log: Log | None = None) -> None:
        super().__init__(served, config, log)
        self.desk = Desk(config.limits.queue)
        self.lanes = 0
        self._changed = threading.Condition()
        self._told: deque[tuple[str, bytes]] | None = None
        """What the server has yet to be told; None while there is no link to it."""
        self.metrics.gauge("mpcc_requests_held", "Requests that wait or are computed", lambda: len(self.desk))
        self.metrics.gauge("mpcc_lanes", "Sessions that are set up", lambda: self.lanes)

    def start(self) -> None:
        self.over_and_over("requests to the server", self._tell)
        self.thread("expiry", self._expire)
        for size in self.served.programs:
            for number in range(self.config.limits.in_flight):
                self.over_and_over(f"lane {number} of {size}", lambda size=size: self._lane(size))  # type: ignore[misc]

    def state(self) -> tuple[bool, str]:
        return self.lanes > 0 and self._told is not None, f"{self.lanes} sessions, {len(self.desk)} requests held"

    def request(self, number: bytes, words: Words) -> Request:
        """A share that has come. Refused."""
        with self._changed:
            if self._told is None:
                raise Refused(503, "no link to the server", 2)
            request = self.desk.add(number, words)
            self._told.append(("have", number))
            self._changed.notify_all()
        return request

    def forget(self, request: Request) -> None:
        self.desk.forget(request)
        if not request.taken:
            self._withdraw(request)

    def _withdraw(self, request: Request) -> None:
        with self._changed:
            if self._told is not None:
                self._told.append(("gone", request.id))
                self._changed.notify_all()

    def _tell(self) -> None:
        """The link on which the server learns which requests are here."""
        wire, _ = self.config.peers.meet(SERVER, self.terms(None))
        try:
            with self._changed:
                self._told = deque(("have", number) for number in self.desk.requests)
            while not self.stopping.is_set():
                with self._changed:
                    if not self._told:
                        self._changed.wait(TICK_SECONDS)
                    told = list(self._told)
                    self._told.clear()
                for kind, number in told:
                    say(wire, {"kind": kind, "id": number.hex()})
                if not told and wire.gone():
                    raise EOFError("the server has closed the link")
        finally:
            with self._changed:
                self._told = None
            wire.close()

    def _lane(self, size: int) -> None:
        """One session, until it fails or the server ends it."""
        wires, terms = again_when_lost(lambda: self._join(self.terms(self.served.programs[size])))
        try:
            with self.session(terms, wires) as participant:
                self._compute(participant, size)
        finally:
            for wire in wires.values():
                wire.close()

    def _join(self, terms: Terms) -> tuple[dict[str, Wire], Terms]:
        wires: dict[str, Wire] = {}
        where = f"{self.config.role}: start of a session"
        try:
            wires[SERVER], agreed = self.config.peers.meet(SERVER, terms)
            message = receive(wires[SERVER], "start", where, Deadline(START_SECONDS + self.config.peers.connect_seconds))
            session = session_id(message, None, where)
            agreed = replace(agreed, session=session)
            wires[DEALER] = self.config.peers.meet(DEALER, agreed)[0]
            started(wires[SERVER], session, self.config.role)
            return wires, agreed
        except BaseException:
            for wire in wires.values():
                wire.close()
            raise

    def _compute(self, participant: Participant, size: int) -> None:
        server = participant.channels[SERVER]
        participant.set_up()
        counted = False
        try:
            while not self.stopping.is_set():
                slot, numbers = Slot(Phase.BATCH, participant.inference.number + 1), empty(size * ID_BYTES // WORD)
                server.post(slot, numbers)
                participant.prepare()
                if not counted:
                    counted = True
                    self._count(1)
                    self.log("lane open", batch=size)
                server.receive(slot, forever=True)
                self._batch(participant, size, self.desk.take(ids_of(numbers)))
            participant.leave()
        finally:
            self._count(-counted)

    def _count(self, change: int) -> None:
        with self._lock:
            self.lanes += change

    def _batch(self, participant: Participant, size: int, batch: list[Request | None]) -> None:
        try:
            words = [None if request is None else request.words for request in batch]
            outputs, report = participant.run(self.served.stacked(size, words))
        except BaseException:
            for request in filter(None, batch):
                request.refuse(Refused(503, "the computation has failed. Ask again, with new shares.", 1))
            raise
        for held, body in zip(batch, self.served.answers(size, outputs), strict=False):
            if held is not None:
                held.finish(body)
        self.metrics.computed(len(batch), report)

    def _expire(self) -> None:
        """The server decides when a request is given up; this only ends what it has forgotten."""
        limits = self.config.limits
        while not self.stopping.wait(TICK_SECONDS):
            for request in self.desk.overdue(limits.wait_seconds + limits.pair_seconds):
                request.refuse(Refused(503, "the server has not begun with this request", 5))
                self._withdraw(request)
