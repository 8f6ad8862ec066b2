"""How correlated randomness gets from the dealer to the parties, ahead of the input.

The dealer draws three seeds per session: one for each party, one that neither may know. It sends each party its own, streams to
one or the other what is derived from masks, and to both the keys of trees: once for the set-up, then inference by inference, each
number once, in ascending order. It learns nothing: it sees seeds and masks only.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mpcc.errors import PartyError, SecurityError
from mpcc.program.program import WORD, Program

from ..device.device import CPU, Device
from ..net.transport import PeerLeft, Phase, Slot, empty
from .material import Recipe, Seeds
from .randomness import SEED_BYTES, fresh_seed

FRAME_WORDS = 1 << 17
"""Derived values are sent in messages of about this many words, so that dealing, sending and receiving overlap."""
INSECURE = (
    "insecure dealer: the server makes the correlated randomness itself, so it knows every mask and can read the client's "
    "input. For measuring on one machine only."
)


class Link(Protocol):
    """What messages of known sizes travel over: a Channel, or CrypTen's process group."""

    def post(self, slot: Slot, buffer: Tensor) -> None: ...

    def send(self, slot: Slot, payload: Tensor) -> None: ...

    def receive(self, slot: Slot, *, forever: bool = False) -> None: ...


class Material(Protocol):
    """Where a party's correlated randomness comes from."""

    def setup(self) -> dict[str, Tensor | None]: ...

    def inference(self, number: int) -> dict[str, Tensor | None]: ...

    def finished(self, number: int) -> None: ...


@dataclass(frozen=True)
class Chunk:
    """A correlation that is sent: its share's name and shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def words(self) -> int:
        return math.prod(self.shape)


def frames(recipe: Recipe, setup: bool, party: int) -> list[list[Chunk]]:
    """How the correlations that are sent to a party are grouped into messages; both ends derive the same grouping."""
    groups: list[list[Chunk]] = []
    filled = FRAME_WORDS
    for name, source, _ in recipe.travelling(setup, party):
        chunk = Chunk(name, tuple(source.meta["val"].shape))
        if filled >= FRAME_WORDS:
            groups.append([])
            filled = 0
        groups[-1].append(chunk)
        filled += chunk.words
    return groups


Links = tuple["Link | dict[str, Tensor | None]", Link]
"""Of party 0 and of party 1; where the dealer is party 0 itself, what keeps its values instead."""


def send_dealt(
    recipe: Recipe, links: Links, seeds: tuple[Seeds, Seeds], own: Seeds, number: int, *, setup: bool = False
) -> None:
    """Derive and send what the parties need for the set-up or for one inference."""
    phase = Phase.DEAL_SETUP if setup else Phase.DEAL
    first, second = links
    kept = first if isinstance(first, dict) else None
    senders = [
        _Sender(recipe.device, link, frames(recipe, setup, party), phase, number)
        for party, link in enumerate((first, second))
        if not isinstance(link, dict)
    ]
    of_first = {name for name, _, _ in recipe.travelling(setup, 0)}
    for (name, _, _), value in zip(recipe.travelling(setup), recipe.deal(seeds, own, setup), strict=True):
        for sender in senders:
            sender.take(name, value)
        if kept is not None and name in of_first:
            kept[name] = value


class _Sender:
    """Collects the values of a party's messages, and sends each message when it is whole."""

    def __init__(
        self, device: Device, link: Link, groups: Sequence[Sequence[Chunk]], phase: Phase, number: int
    ) -> None:
        self.device, self.link, self.phase, self.number = device, link, phase, number
        self.due = deque((index, [chunk.name for chunk in group]) for index, group in enumerate(groups))
        self.parts: list[Tensor] = []

    def take(self, name: str, value: Tensor) -> None:
        """The next value, unless it is not for this party."""
        if not self.due or self.due[0][1][len(self.parts)] != name:
            return
        self.parts.append(value.reshape(-1))
        index, names = self.due[0]
        if len(self.parts) == len(names):
            self.link.send(Slot(self.phase, self.number, index), self.device.on_host(torch.cat(self.parts)))
            self.parts = []
            self.due.popleft()


@dataclass(frozen=True)
class SessionSeeds:
    """The three seeds of a session; only the dealer has them all."""

    server: bytes
    client: bytes
    own: bytes

    @staticmethod
    def fresh() -> SessionSeeds:
        return SessionSeeds(fresh_seed(), fresh_seed(), fresh_seed())

    def numbered(self, number: int) -> tuple[tuple[Seeds, Seeds], Seeds]:
        return (Seeds.of(self.server, number), Seeds.of(self.client, number)), Seeds.of(self.own, number)


class Dealer:
    """The dealer's side: serve one session."""

    def __init__(self, program: Program, server: Link, client: Link, *, first: int = 0, device: Device = CPU) -> None:
        self.recipe = Recipe(program, device)
        self.server, self.client, self.next = server, client, first
        self.seeds = SessionSeeds.fresh()
        self.seconds: dict[int, float] = {}

    def serve(self) -> None:
        """Set up, then deal as long as the client asks. Ends when the client leaves."""
        try:
            self.server.send(Slot(Phase.SEED), _as_words(self.seeds.server))
            self.client.send(Slot(Phase.SEED), _as_words(self.seeds.client))
            links = self.server, self.client
            send_dealt(self.recipe, links, *self.seeds.numbered(0), 0, setup=True)
            while True:
                credit = Slot(Phase.CREDIT, self.next)
                self.client.post(credit, empty(0))
                self.client.receive(credit, forever=True)
                start = time.perf_counter()
                send_dealt(self.recipe, links, *self.seeds.numbered(self.next), self.next)
                self.seconds = {self.next: time.perf_counter() - start}
                self.next += 1
        except PeerLeft:
            return


class FromDealer:
    """Material from a dealer over `link`: a party's seed, and what is dealt to it. Party 1 asks, `ahead` inferences ahead.

    `patient`: party 1 may be idle before it does. What is given out is on `device`.
    """

    def __init__(
        self, program: Program, party: int, link: Link, *, ahead: int = 1, credit: bool = True, patient: bool = False,
        device: Device = CPU,
    ) -> None:  # fmt: skip
        self.recipe, self.party, self.link = Recipe(program, device), party, link
        self.ahead, self.credit, self.patient = ahead, credit, patient
        self.session: bytes | None = None
        self.replay_guard = ReplayGuard()
        self.groups = {setup: frames(self.recipe, setup, party) for setup in (True, False)}
        self._waiting: dict[int, list[Tensor]] = {}
        self._asked = 0
        self._seed = empty(SEED_BYTES // WORD)
        link.post(Slot(Phase.SEED), self._seed)

    def setup(self) -> dict[str, Tensor | None]:
        buffers = self._post(Phase.DEAL_SETUP, 0, setup=True)
        self.link.receive(Slot(Phase.SEED))
        self.session = self._seed.numpy().tobytes()
        self._seed.zero_()
        shares = self.recipe.expand(self.party, Seeds.of(self.session, 0), True)
        shares.update(self._take(Phase.DEAL_SETUP, 0, buffers, True))
        if self.credit:
            self._ask(self.ahead)
        return shares

    def inference(self, number: int) -> dict[str, Tensor | None]:
        assert self.session is not None
        self.replay_guard.use(number)
        self._ask(number + 1)
        shares = self.recipe.expand(self.party, Seeds.of(self.session, number), False)
        shares.update(self._take(Phase.DEAL, number, self._waiting.pop(number, []), False))
        return shares

    def finished(self, number: int) -> None:
        """Ask for the next: not earlier, so that a dealer on the same machine does not compete with the inference."""
        if self.credit:
            self._ask(number + 1 + self.ahead)

    def _ask(self, until: int) -> None:
        while self._asked < until:
            number = self._asked
            self._waiting[number] = self._post(Phase.DEAL, number, setup=False)
            if self.credit and self.party == 1:
                self.link.send(Slot(Phase.CREDIT, number), empty(0))
            self._asked += 1

    def _post(self, phase: Phase, number: int, *, setup: bool) -> list[Tensor]:
        device = self.recipe.device
        buffers = [device.buffer(sum(chunk.words for chunk in group)) for group in self.groups[setup]]
        for index, buffer in enumerate(buffers):
            self.link.post(Slot(phase, number, index), buffer)
        return buffers

    def _take(self, phase: Phase, number: int, buffers: Sequence[Tensor], setup: bool) -> Iterator[tuple[str, Tensor]]:
        for index, (group, buffer) in enumerate(zip(self.groups[setup], buffers, strict=True)):
            self.link.receive(Slot(phase, number, index), forever=self.patient and index == 0 and not setup)
            yield from cut(group, self.recipe.device.on_it(buffer))


def cut(group: Iterable[Chunk], buffer: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The correlations of a message, which follow one another."""
    position = 0
    for chunk in group:
        yield chunk.name, buffer[position : position + chunk.words].reshape(chunk.shape)
        position += chunk.words


class ServerDeals:
    """The server as dealer, in its own process: only on explicit request (INSECURE says what that means)."""

    def __init__(self, program: Program, link: Link, device: Device = CPU) -> None:
        self.recipe, self.link = Recipe(program, device), link
        self.seeds = SessionSeeds.fresh()
        self.replay_guard = ReplayGuard()

    def setup(self) -> dict[str, Tensor | None]:
        self.link.send(Slot(Phase.SEED), _as_words(self.seeds.client))
        shares = self.recipe.expand(0, Seeds.of(self.seeds.server, 0), True)
        send_dealt(self.recipe, (shares, self.link), *self.seeds.numbered(0), 0, setup=True)
        return shares

    def inference(self, number: int) -> dict[str, Tensor | None]:
        self.replay_guard.use(number)
        shares = self.recipe.expand(0, Seeds.of(self.seeds.server, number), False)
        send_dealt(self.recipe, (shares, self.link), *self.seeds.numbered(number), number)
        return shares

    def finished(self, number: int) -> None:
        pass


class MaterialExhausted(PartyError):
    """There is no material for another inference."""


class ReplayGuard:
    """Inference numbers only increase: material that was used is never used again."""

    def __init__(self) -> None:
        self.last = -1

    def use(self, number: int) -> None:
        if number <= self.last:
            raise SecurityError(
                f"the material of inference {number} was used already (the last was {self.last}): a replay",
                where="correlated randomness",
            )
        self.last = number



def _as_words(seed: bytes) -> Tensor:
    return torch.frombuffer(bytearray(seed), dtype=torch.int64)
