"""The server: it owns the weights, matches the two shares of each request, and leads the computations.

    helper -> server    a link that tells which requests it holds; and one session for each lane
    server -> helper    the ids of the next batch, on the lane that computes it, and the first round right behind
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace

import torch
from torch import Tensor

from mpcc.errors import MpccError
from mpcc.runtime.net.handshake import DEALER, HELPER, refuse, start
from mpcc.runtime.net.listener import Listener, Visitor
from mpcc.runtime.net.messages import hear, printable
from mpcc.runtime.net.transport import Phase, Slot
from mpcc.runtime.net.wire import FOREVER, Deadline, Wire
from mpcc.runtime.session.participant import Participant

from .config import ServeConfig
from .desk import Desk, Refused, Request
from .log import Log
from .queue import Queue
from .served import ID_BYTES, Served, Words
from .service import Service

START_SECONDS = 20.0
"""How long the helper may take to meet the dealer, which the server has just met."""
TICK_SECONDS = 0.5
MOST_LANES = 64
"""Sessions at a time: each costs threads and memory, and an authenticated helper needs a few."""


class ServerService(Service):
    """Party 0 for any number of clients."""

    def __init__(self, served: Served, config: ServeConfig, log: Log | None = None) -> None:
        super().__init__(served, config, log)
        self.queue = Queue(Desk(config.limits.queue), config.limits.in_flight)
        self._lanes = threading.Semaphore(MOST_LANES)
        self._control = threading.Lock()
        self._helper: Wire | None = None
        """The link on which requests are told."""
        self.metrics.gauge("mpcc_requests_held", "Requests that wait or are computed", lambda: len(self.queue.desk))
        self.metrics.gauge("mpcc_requests_ready", "Requests that wait for a lane", lambda: self.queue.waiting)
        self.metrics.gauge("mpcc_lanes", "Sessions that are set up", lambda: sum(self.queue.lanes.values()))
        self.metrics.gauge("mpcc_lanes_idle", "Sessions with material for the next batch", lambda: len(self.queue.idle))

    def start(self) -> None:
        offered = [self.terms(None), *(self.terms(program) for program in self.served.programs.values())]
        self._listener = Listener(
            self.config.peers, (HELPER,), offered, self._arrived, notice=lambda text: self.log("refused", reason=text)
        )
        self.thread("expiry", self._expire)

    def stop(self) -> None:
        self._listener.close()
        super().stop()
        if self._helper is not None:
            self._helper.close()

    def state(self) -> tuple[bool, str]:
        lanes = sum(self.queue.lanes.values())
        return lanes > 0, f"{lanes} sessions, {len(self.queue.idle)} of them idle, {self.queue.waiting} requests wait"

    def request(self, number: bytes, words: Words) -> Request:
        """A share that has come. Refused."""
        return self.queue.add(number, words)

    def forget(self, request: Request) -> None:
        self.queue.desk.forget(request)

    # -- the helper --

    def _arrived(self, visitor: Visitor) -> None:
        """A link of the helper, on a thread of its own."""
        if visitor.terms.program not in self.sizes:
            self.thread("requests of the helper", lambda: self._hear(visitor.wire))
        elif self._lanes.acquire(blocking=False):
            self.thread(f"lane of {self.sizes[visitor.terms.program]}", lambda: self._lane(visitor))
        else:
            refuse(visitor.wire, f"{MOST_LANES} sessions are open already")
            visitor.wire.close()

    def _hear(self, wire: Wire) -> None:
        """What the helper tells of its requests. A new link replaces an older one."""
        if self._helper is not None:
            self._helper.close()  # it may hang: the helper's machine may have vanished
        with self._control:
            self._helper = wire
            self.queue.helper_lost()
            try:
                while not self.stopping.is_set():
                    message = hear(wire, FOREVER)
                    number = bytes.fromhex(str(message.get("id")))
                    if len(number) != ID_BYTES:
                        raise ValueError(f"an id of {len(number)} bytes")
                    {"have": self.queue.announced, "gone": self.queue.withdrawn}[str(message.get("kind"))](number)
            except EOFError:
                self.log("helper left")
            except (OSError, ValueError, KeyError) as error:
                self.log("helper lost", reason=printable(error))
            finally:
                wire.close()
                self.queue.helper_lost()

    def _lane(self, visitor: Visitor) -> None:
        wires: dict[str, Wire] = {HELPER: visitor.wire}
        try:
            terms = replace(visitor.terms, session=secrets.token_hex(16))
            try:
                wires[DEALER] = self.config.peers.meet(DEALER, terms)[0]
            except MpccError as error:
                refuse(visitor.wire, f"the dealer cannot be reached: {error.what}")
                raise
            assert terms.session is not None
            start(visitor.wire, terms.session, Deadline(START_SECONDS))
            with self.session(terms, wires) as participant:
                self._compute(participant, self.sizes[terms.program])
                participant.leave()
        finally:
            self._lanes.release()
            for wire in wires.values():
                wire.close()

    def _compute(self, participant: Participant, size: int) -> None:
        """One batch after another, as long as the session lasts."""

        def alive() -> bool:
            return not self.stopping.is_set() and participant.peers.failure is None and not participant.channels[HELPER].left

        participant.set_up()
        participant.prepare()
        self.queue.opened(size)
        self.log("lane open", batch=size)
        try:
            while batch := self.queue.next(size, alive):
                try:
                    self._batch(participant, size, batch)
                finally:
                    self.queue.done()
                participant.prepare()
            participant.peers.check("between batches")
        finally:
            self.queue.closed(size)

    def _batch(self, participant: Participant, size: int, batch: list[Request]) -> None:
        try:
            participant.channels[HELPER].send(
                Slot(Phase.BATCH, participant.inference.number), ids(size, [request.id for request in batch])
            )
            outputs, report = participant.run(self.served.stacked(size, [request.words for request in batch]))
        except BaseException as error:
            reason = error.what if isinstance(error, MpccError) else "the helper has left"
            for request in batch:
                request.refuse(Refused(503, f"the computation has failed: {reason}. Ask again, with new shares.", 1))
            raise
        for request, body in zip(batch, self.served.answers(size, outputs), strict=False):
            request.finish(body)
        self.metrics.computed(len(batch), report)

    def _expire(self) -> None:
        limits = self.config.limits
        while not self.stopping.wait(TICK_SECONDS):
            self.queue.expire(limits.pair_seconds, limits.wait_seconds)


def ids(size: int, numbers: list[bytes]) -> Tensor:
    """The ids of a batch as words; places that are not taken are zero."""
    text = b"".join(numbers).ljust(size * ID_BYTES, b"\0")
    return torch.frombuffer(bytearray(text), dtype=torch.int64)


def ids_of(words: Tensor) -> list[bytes]:
    """The ids that a message holds."""
    text = words.numpy().tobytes()
    parts = [text[i : i + ID_BYTES] for i in range(0, len(text), ID_BYTES)]
    return [part for part in parts if any(part)]
