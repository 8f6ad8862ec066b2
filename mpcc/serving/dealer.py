"""The dealer: correlated randomness for every session of server and helper. It never meets a client, nor sees a share."""

from __future__ import annotations

from mpcc.runtime.net.handshake import HELPER, SERVER
from mpcc.runtime.net.listener import Listener, Visitor
from mpcc.runtime.session.waiting import Pairing

from .config import ServeConfig
from .log import Log
from .served import Served
from .service import Service


class DealerService(Service):
    """Deals for all sessions at once, each on a thread of its own."""

    def __init__(self, served: Served, config: ServeConfig, log: Log | None = None) -> None:
        super().__init__(served, config, log)
        self._pairing = Pairing(HELPER)
        self.metrics.gauge("mpcc_sessions", "Sessions that are dealt for", lambda: len(self.participants))

    def start(self) -> None:
        offered = [self.terms(program) for program in self.served.programs.values()]
        self._listener = Listener(
            self.config.peers, (SERVER, HELPER), offered, self._pairing.arrived, tick=self._pairing.tick,
            notice=lambda text: self.log("refused", reason=text),
        )  # fmt: skip
        self.thread("pairs", self._pairs)

    def stop(self) -> None:
        self._listener.close()
        super().stop()
        self._pairing.close()

    def state(self) -> tuple[bool, str]:
        return True, f"{len(self.participants)} sessions"

    def _pairs(self) -> None:
        while pair := self._pairing.next(None, self.stopping):
            self.thread("dealing", lambda pair=pair: self._deal(pair))  # type: ignore[misc]

    def _deal(self, pair: tuple[Visitor, Visitor]) -> None:
        wires = {half.role: half.wire for half in pair}
        try:
            with self.session(pair[0].terms, wires) as participant:
                participant.deal()
        finally:
            for wire in wires.values():
                wire.close()
