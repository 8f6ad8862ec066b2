"""What the services of all roles have in common: threads, the listener's terms, and the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from mpcc.errors import MpccError, PartyError
from mpcc.program import Program
from mpcc.runtime.device.card import device_of
from mpcc.runtime.net.handshake import Terms
from mpcc.runtime.net.transport import PeerLeft
from mpcc.runtime.net.wire import Wire
from mpcc.runtime.session.participant import Participant

from .config import ServeConfig
from .log import Log
from .metrics import Metrics
from .served import Served

AGAIN_SECONDS = 1.0
"""How long a role waits before it tries anew to reach another that has failed."""
CONTROL = "requests of "
"""The link on which the helper tells which requests it holds names this in place of a program, before the digest."""


class Service:
    """The part of a role that runs beside its HTTP front."""

    def __init__(self, served: Served, config: ServeConfig, log: Log | None = None) -> None:
        self.served, self.config, self.device = served, config, device_of(config.device)
        self.log = log or Log(config.role, config.replica)
        self.metrics = Metrics()
        self.stopping = threading.Event()
        self.participants: set[Participant] = set()
        self._lock = threading.Lock()
        self.sizes = {program.digest: size for size, program in served.programs.items()}

    def start(self) -> None:
        """Begin, without waiting for the other roles. PartyError where an address is taken."""

    def stop(self) -> None:
        """End all sessions: the other roles are told, and requests that are being computed are refused."""
        self.stopping.set()
        with self._lock:
            running = list(self.participants)
        for participant in running:
            participant.peers.abort(PartyError(f"the {self.config.role} stops"))
            participant.peers.fail(PartyError(f"the {self.config.role} stops"))

    def state(self) -> tuple[bool, str]:
        """Whether requests can be answered now, and in words."""
        return not self.stopping.is_set(), "running"

    def terms(self, program: Program | None) -> Terms:
        """What a link must agree on: of a session, or (None) of the one on which requests are told."""
        digest = CONTROL + self.served.digest if program is None else program.digest
        return Terms(digest, self.served.bundle.manifest.model_version, None, link=self.config.link)

    def thread(self, name: str, work: Callable[[], None]) -> None:
        """Run something in the background; what it fails of is logged, and never ends the service."""

        def guarded() -> None:
            try:
                work()
            except Exception as error:
                self.failed(name, error)

        threading.Thread(target=guarded, name=name, daemon=True).start()

    def failed(self, what: str, error: BaseException) -> None:
        """Log the end of a session or a link, unless the service ends anyway."""
        if self.stopping.is_set():
            return
        if isinstance(error, PeerLeft):
            self.log("session ended", what=what, reason=f"the {error} has left")
            return
        self.metrics.failures.inc()
        text = str(error) if isinstance(error, MpccError) else f"internal error: {type(error).__name__}: {error}"
        self.log("session failed", what=what, reason=text)

    def over_and_over(self, name: str, work: Callable[[], None]) -> None:
        """In the background: run `work`, which ends by failing, again and again."""

        def loop() -> None:
            while not self.stopping.is_set():
                began = time.monotonic()
                try:
                    work()
                except Exception as error:
                    self.failed(name, error)
                if not self.stopping.is_set() and time.monotonic() < began + 10 * AGAIN_SECONDS:
                    self.stopping.wait(AGAIN_SECONDS)

        self.thread(name, loop)

    @contextmanager
    def session(self, terms: Terms, wires: Mapping[str, Wire]) -> Iterator[Participant]:
        """This role in a session whose handshakes are done. What it fails of is told to the others."""
        limits, program = self.config.limits, self.served.programs[self.sizes[terms.program]]
        participant = Participant(
            self.config.role, program, terms, wires, ahead=limits.ahead, timeout=limits.timeout, device=self.device
        )
        with self._lock:
            self.participants.add(participant)
        try:
            yield participant
        except BaseException as error:
            participant.peers.abort(error)
            raise
        finally:
            with self._lock:
                self.participants.discard(participant)
