"""What each role of a session does: set up, then run inferences, or deal for them.

Used by the processes that a Session starts on one machine, and by `run_party` across machines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from mpcc.errors import PartyError
from mpcc.program.program import Program

from ..dealer.dealing import Dealer, FromDealer, Material, MaterialExhausted, ServerDeals
from ..device.device import CPU, Device
from ..engine.inference import Inference, Progress
from ..net.handshake import CLIENT, DEALER, HELPER, SERVER, Terms
from ..net.transport import Channel, PeerLeft, Peers, Phase, Tap, Traffic
from ..net.wire import Wire

PEERS = {SERVER: (CLIENT, DEALER), CLIENT: (SERVER, DEALER), DEALER: (SERVER, CLIENT)}
"""The peers of a role, in the order of its handshakes."""
SECOND = (CLIENT, HELPER)
"""The roles that are party 1."""


@dataclass(frozen=True)
class PhaseReport:
    """What a phase took: messages between the parties, bytes of both directions, and bytes from the dealer."""

    rounds: int
    sent_bytes: int
    seconds: float
    dealer_bytes: int


@dataclass(frozen=True)
class Report:
    """What one inference took at one party, as its channels counted. `offline_bytes`: from the dealer to it, and what it sent to
    the other party before the input."""

    number: int
    rounds: int
    sent: int
    received: int
    seconds: float
    offline_seconds: float
    offline_bytes: int

    @property
    def bytes(self) -> int:
        return self.sent + self.received


class Participant:
    """A role in a session, joined to its peers over wires whose handshake is done.

    Where party 1 is a helper, inputs come and outputs stay as shares at both parties: `run` takes and gives a party's own.
    """

    def __init__(
        self,
        role: str,
        program: Program,
        terms: Terms,
        wires: Mapping[str, Wire],
        *,
        ahead: int = 1,
        timeout: float = 120.0,
        idle: float | None = None,
        tap: Tap | None = None,
        material: Material | None = None,
        device: Device = CPU,
    ) -> None:
        """`device`: where this role computes; `material` gives what it gives there too."""
        self.device = device
        self.role, self.program, self.terms = role, program, terms
        self.peers = Peers(role)
        self.channels = {
            peer: Channel(
                wire, peer, self.peers, link=terms.link, timeout=timeout, idle=idle, asker=self._asker(peer, wires), tap=tap
            )
            for peer, wire in wires.items()
        }
        self._idles = idle is not None
        self.setup_report = PhaseReport(0, 0, 0.0, 0)
        self._inference: Inference | None = None if role == DEALER else self._party(ahead, material)

    def _party(self, ahead: int, material: Material | None) -> Inference:
        other = self._between()
        party = 0 if self.role == SERVER else 1
        if material is not None:
            pass
        elif not self.terms.insecure_dealer:
            patient = party == 0 and self._idles
            material = FromDealer(self.program, party, self.channels[DEALER], ahead=ahead, patient=patient, device=self.device)
        elif party == 0:
            material = ServerDeals(self.program, other, self.device)
        else:
            material = FromDealer(self.program, party, other, credit=False, device=self.device)
        shared = HELPER in (self.role, other.peer)
        return Inference(self.program, party, other, material, shared=shared, device=self.device)

    def _asker(self, peer: str, wires: Mapping[str, Wire]) -> str | None:
        """Who asks a peer for its messages, where it is another: party 1 asks the dealer for material."""
        return next((role for role in SECOND if role in wires), None) if (self.role, peer) == (SERVER, DEALER) else None

    @property
    def inference(self) -> Inference:
        assert self._inference is not None, "the dealer has none"
        return self._inference

    def deal(self) -> None:
        """The dealer's whole work: until party 1 leaves."""
        with self.device.computing():
            Dealer(self.program, self.channels[SERVER], self._second(), device=self.device).serve()
        self.peers.leave()

    def set_up(self) -> PhaseReport:
        """The set-up of both parties."""
        with self.device.computing():
            self.inference.set_up()
        between = self._between().traffic.pop((Phase.SETUP, 0), Traffic())
        dealt = self._dealt().traffic.pop((Phase.DEAL_SETUP, 0), Traffic())
        self.setup_report = PhaseReport(between.rounds, between.bytes, self.inference.timing.setup, dealt.bytes)
        return self.setup_report

    def prepare(self) -> None:
        """Prepare the next inference as far as possible without its input."""
        with self.device.computing():
            self.inference.prepare()

    def run(
        self, shares: Sequence[Tensor] | None = None, progress: Progress | None = None
    ) -> tuple[list[Tensor], Report]:
        """One prepared inference: the totals at the client, and what it took."""
        gone = ", ".join(c.peer for c in self.channels.values() if c.left)
        if gone and self.role == CLIENT:
            raise PartyError(f"{gone} has left", where=self.role)
        with self.device.computing():
            outputs = self.inference.run(shares, progress)
        number, timing = self.inference.number, self.inference.timing
        between = self._between().traffic.pop((Phase.ONLINE, number))
        dealt = self._dealt().traffic.pop((Phase.DEAL, number), Traffic())
        early = self._between().traffic.pop((Phase.AHEAD, number), Traffic())
        self._dealt().traffic.pop((Phase.CREDIT, number), None)
        self._between().traffic.pop((Phase.BATCH, number), None)
        return outputs, Report(
            number,
            between.rounds,
            between.sent_bytes,
            between.received_bytes,
            timing.online,
            timing.offline,
            dealt.bytes + early.sent_bytes,
        )

    def serve(self, report: Callable[[Report], None]) -> None:
        """The server's work after the set-up: one inference after another, until the client leaves."""
        try:
            while True:
                try:
                    self.prepare()
                except MaterialExhausted:
                    self._between().await_leave()
                report(self.run()[1])
        except PeerLeft:
            self.peers.leave()

    def leave(self) -> None:
        self.peers.leave()

    def _between(self) -> Channel:
        return self._second() if self.role == SERVER else self.channels[SERVER]

    def _second(self) -> Channel:
        return next(self.channels[role] for role in SECOND if role in self.channels)

    def _dealt(self) -> Channel:
        return self.channels.get(DEALER, self._between())


def as_header(report: PhaseReport | Report) -> dict[str, Any]:
    return asdict(report)


