"""An online program inside a user's own CrypTen run: a CrypTensor goes in, a CrypTensor comes out.

    crypten.init()                                               # both parties, as always
    state = PartyState.join(program, version, insecure_dealer=True)      # or dealer=("host", 7002), identity=...
    y = run_in_party(state, crypten.cryptensor(x))               # y stays shared: y.get_plain_text() opens it

Party 0 holds the weights (`program.constants`). Messages go over CrypTen's process group, every receive posted before
its message comes, so a round is half a round trip. The group is plain TCP: as private as the user's CrypTen run is.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mpcc.errors import PartyError, SecurityError, ShapeError, UsageError
from mpcc.ir.info import scale_of
from mpcc.lowering.reshare import narrowed
from mpcc.program.check import check_masks
from mpcc.program.program import Program

from ..dealer.dealing import FromDealer, Material, ServerDeals
from ..engine.inference import Inference
from ..net.connect import PeerConfig
from ..net.handshake import CLIENT, DEALER, PROTOCOL, SERVER, Terms
from ..net.identity import Identity
from ..net.transport import Channel, Peers, Phase, Slot, Traffic
from ..net.wire import Wire
from .borders import check
from .shim import import_crypten

FIRST_TAG, TAGS = 1 << 20, 1 << 20
"""Tags of our messages in the process group, one after another."""


class GroupLink:
    """Messages of known sizes over CrypTen's process group: isend, and irecv posted beforehand."""

    def __init__(self, rank: int, timeout: float = 120.0) -> None:
        self.peer, self.timeout = 1 - rank, timedelta(seconds=timeout)
        self.group = import_crypten().communicator.get().main_group
        self.traffic: defaultdict[tuple[Phase, int], Traffic] = defaultdict(Traffic)
        self._posted: dict[Slot, Any] = {}
        self._leaving: deque[tuple[Any, Tensor]] = deque()
        self._sent = self._expected = 0

    def post(self, slot: Slot, buffer: Tensor) -> None:
        self._posted[slot] = self._started(dist.irecv, buffer, self._expected) if buffer.numel() else None
        self._expected += 1
        counted = self.traffic[slot.phase, slot.number]
        counted.received_bytes += 8 * buffer.numel()
        counted.received_messages += 1

    def send(self, slot: Slot, payload: Tensor) -> None:
        payload = payload.contiguous()
        if payload.numel():
            self._leaving.append((self._started(dist.isend, payload, self._sent), payload))
        self._sent += 1
        counted = self.traffic[slot.phase, slot.number]
        counted.sent_bytes += 8 * payload.numel()
        counted.sent_messages += 1
        while self._leaving and self._leaving[0][0].is_completed():
            self._leaving.popleft()

    def receive(self, slot: Slot, *, forever: bool = False) -> None:
        work = self._posted.pop(slot)
        try:
            if work is not None:
                work.wait(self.timeout)
        except RuntimeError as error:
            raise self._lost(error, f"waiting for {slot}") from None

    def _started(self, start: Callable[..., Any], tensor: Tensor, number: int) -> Any:
        try:
            return start(tensor, self.peer, group=self.group, tag=FIRST_TAG + number % TAGS)
        except RuntimeError as error:
            raise self._lost(error, "at a message") from None

    def _lost(self, error: Exception, doing: str) -> PartyError:
        said = str(error).splitlines()[0]
        return PartyError(f"party {self.peer} is lost ({said})", where=f"party {1 - self.peer} in CrypTen, {doing}")


@dataclass
class PartyState:
    """One party of a program inside a CrypTen run: set up once, then `run_in_party` any number of times."""

    program: Program
    rank: int
    inference: Inference
    peers: Peers | None = None

    @staticmethod
    def join(
        program: Program,
        model_version: str,
        *,
        dealer: tuple[str, int] | None = None,
        identity: Identity | None = None,
        insecure_dealer: bool = False,
    ) -> PartyState:
        """Both parties call it: they compare programs, then the server's masked weights are opened (set-up).

        `dealer`: where `run_party` of `narrowed(program)` listens as the dealer. `insecure_dealer`: party 0 makes the
        correlated randomness, as CrypTen's own default does, and can read everything.
        """
        if (dealer is None) != insecure_dealer:
            hint = (
                "insecure_dealer=True: party 0, as CrypTen's default does; or PartyState.join(..., dealer=(host, port)) "
                "of mpcc.runtime.crypten.inside"
            )
            raise UsageError("correlated randomness has no source", hint=hint)
        rank = check()
        shared = narrowed(program)
        check_masks(shared)
        link = GroupLink(rank)
        _compare(link, shared, model_version, insecure_dealer)
        material: Material
        peers = None
        if dealer is not None:
            role = SERVER if rank == 0 else CLIENT
            config = PeerConfig(role, {DEALER: dealer}, identity)
            config.check()
            wire = _meet_dealer(link, config, Terms(shared.digest, model_version, None))
            peers = Peers(role)
            material = FromDealer(shared, rank, Channel(wire, DEALER, peers))
        elif rank == 0:
            material = ServerDeals(shared, link)
        else:
            material = FromDealer(shared, rank, link, credit=False)
        inference = Inference(shared, rank, link, material, shared=True)
        inference.set_up()
        return PartyState(shared, rank, inference, peers)

    def leave(self) -> None:
        """Leave the session with the dealer."""
        if self.peers is not None:
            self.peers.leave()


def run_in_party(state: PartyState, *inputs: Any) -> Any:
    """The program on CrypTensors: one CrypTensor, or a tuple where the program has several outputs.

    Inputs at CrypTen's default 16 fraction bits fit as they are. Outputs have the same scale, reached by a truncation
    that is never off by more than one unit.
    """
    crypten = import_crypten()
    wanted = state.program.inputs()
    if len(inputs) != len(wanted):
        raise ShapeError(f"the program takes {len(wanted)} inputs, {len(inputs)} were given")
    shares = [_share(value, node) for value, node in zip(inputs, wanted, strict=True)]
    state.inference.prepare()
    outputs = state.inference.run(shares)
    made = tuple(crypten.mpc.MPCTensor.from_shares(share, precision=16) for share in outputs)
    return made[0] if len(made) == 1 else made


def _share(value: Any, node: Any) -> Tensor:
    """This party's share of a CrypTensor, as the program's ring integers."""
    crypten = import_crypten()
    if not isinstance(value, crypten.mpc.MPCTensor) or value.ptype != crypten.mpc.arithmetic:
        hint = "crypten.cryptensor(x)"
        raise UsageError("a CrypTensor with arithmetic shares is needed", where=node.name, hint=hint)
    wanted = tuple(node.meta["val"].shape)
    if tuple(value.size()) != wanted:
        raise ShapeError(f"the input has shape {tuple(value.size())}, the program takes {wanted}", where=node.name)
    factor = scale_of(node) / value.encoder.scale
    if factor < 1 or factor != int(factor):
        raise UsageError(
            f"the CrypTensor has scale {value.encoder.scale}, the program's input {scale_of(node):g}",
            where=node.name,
            hint="Use CrypTen's default precision of 16 bits.",
        )
    share: Tensor = value.share * int(factor)
    return share


def _compare(link: GroupLink, program: Program, model_version: str, insecure: bool) -> None:
    """SecurityError when the parties do not run the same: hashes only cross the process group."""
    fields = {
        "protocol": str(PROTOCOL),
        "program digest": program.digest,
        "model version": model_version,
        "insecure dealer": str(insecure),
    }
    hashes = [bytearray(hashlib.sha256(text.encode()).digest()) for text in fields.values()]
    mine = torch.stack([torch.frombuffer(digest, dtype=torch.int64) for digest in hashes])
    theirs = torch.empty_like(mine)
    slot = Slot(Phase.SEED, 0, 1)
    link.post(slot, theirs)
    link.send(slot, mine)
    link.receive(slot)
    differing = [name for name, a, b in zip(fields, mine, theirs, strict=True) if not torch.equal(a, b)]
    if differing:
        raise SecurityError(f"the parties differ in: {', '.join(differing)}", where=f"party {1 - link.peer} in CrypTen")


def _meet_dealer(link: GroupLink, config: PeerConfig, terms: Terms) -> Wire:
    """Both parties meet the dealer in one session, whose id the server draws and tells the client once it has arrived."""
    slot, words = Slot(Phase.SEED, 0, 2), torch.empty(2, dtype=torch.int64)
    if config.role == SERVER:
        session = secrets.token_bytes(16)
        wire = config.meet(DEALER, replace(terms, session=session.hex()))[0]
        link.send(slot, torch.frombuffer(bytearray(session), dtype=torch.int64))
        return wire
    link.post(slot, words)
    link.receive(slot)
    return config.meet(DEALER, replace(terms, session=words.numpy().tobytes().hex()))[0]
