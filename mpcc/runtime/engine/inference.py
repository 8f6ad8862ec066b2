"""One party's side of a session: set up once, then prepare and run one inference after another.

Party 0 (the server) holds the weights, party 1 (the client) the input. Without an input of its own, the server
sends its part of the first exchange ahead of time, so that the client's message alone starts an inference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mpcc.ir.nn import size_of
from mpcc.program.program import Program

from ..dealer.dealing import Link, Material
from ..device.device import CPU, Device
from ..net.transport import Phase, Slot, empty
from .evaluate import Party

Progress = Callable[[int, int], None]
"""Called after each round: (done, all)."""


@dataclass
class Timing:
    """Seconds of the last preparation and of the last run."""

    setup: float = 0.0
    offline: float = 0.0
    online: float = 0.0


@dataclass
class Inference:
    """The state of one party over a session."""

    program: Program
    party: int
    link: Link
    material: Material
    shared: bool = False
    """Whether inputs come and outputs stay as shares: then nothing is sent ahead and nothing is revealed."""
    device: Device = CPU
    timing: Timing = field(default_factory=Timing)
    number: int = -1
    """The inference that is prepared or was run last."""

    def __post_init__(self) -> None:
        self._state = Party(self.program, self.party, self.device)
        self._rounds = len(self.program.messages)
        self._buffers = [self.device.buffer(message.words(1 - self.party)) for message in self.program.messages]
        self._ahead = self.device.buffer(self.program.ahead_words)
        self._words = [size_of(self.program.nodes[name]) for name, _ in self.program.outputs]
        self._final = empty(sum(self._words))
        self._sent = False

    def set_up(self) -> None:
        """The server's masked weights, once for all inferences of the session."""
        start = time.perf_counter()
        slot = Slot(Phase.SETUP)
        words = self.program.cost.setup_bytes // 8
        message = self._state.setup_message(self.material.setup())
        if message is None:
            message = self.device.buffer(words)
            if words:
                self.link.post(slot, message)
                self.link.receive(slot)
        elif words:
            self.link.send(slot, message)
        self._state.finish_setup(message)
        self.timing.setup = time.perf_counter() - start

    def prepare(self) -> None:
        """All of the next inference that needs no input."""
        start = time.perf_counter()
        self.number += 1
        self._state.prepare(self.material.inference(self.number))
        early = Slot(Phase.AHEAD, self.number)
        if self.party == 1 and len(self._ahead):
            self.link.send(early, self._state.ahead())
        elif len(self._ahead):
            self.link.post(early, self._ahead)
        for index, buffer in enumerate(self._buffers):
            self.link.post(self._slot(index), buffer)
        if self.party == 1 and not self.shared:
            self.link.post(self._slot(self._rounds), self._final)
        if self.party == 0 and not self.shared:
            shapes = {n.name: tuple(n.meta["val"].shape) for n in self.program.inputs()}
            self._state.start({name: torch.zeros(shape, dtype=torch.int64) for name, shape in shapes.items()})
            if self._rounds:
                self._send(0)
                self._sent = True
        self.timing.offline = time.perf_counter() - start

    def run(self, shares: Sequence[Tensor] | None = None, progress: Progress | None = None) -> list[Tensor]:
        """The outputs: party 1 gets the totals, otherwise own shares. `shares`: of the inputs, as ring integers.

        The wait for the first message has no limit: until it comes, the server is idle.
        """
        start = time.perf_counter()
        if shares is not None:
            names = [n.name for n in self.program.inputs()]
            self._state.start(dict(zip(names, shares, strict=True)))
        if self.party == 0 and len(self._ahead):
            self.link.receive(Slot(Phase.AHEAD, self.number), forever=not self.shared)
            self._state.take_ahead(self._ahead)
        for index, buffer in enumerate(self._buffers):
            if not self._sent:
                self._send(index)
            self._sent = False
            self.link.receive(self._slot(index), forever=index == 0 and self.party == 0 and not self.shared)
            if index == 0 and shares is None:
                start = time.perf_counter()
            self._state.receive(index, buffer)
            if progress is not None:
                progress(index + 1, self._rounds + 1)
        shares = self._state.outputs()
        outputs = shares if self.shared else self._open(shares)
        self.timing.online = time.perf_counter() - start
        self.material.finished(self.number)
        return outputs

    def _open(self, shares: list[Tensor]) -> list[Tensor]:
        """Open the outputs to party 1."""
        slot = self._slot(self._rounds)
        if self.party == 0:
            self.link.send(slot, torch.cat([share.reshape(-1) for share in shares]))
            return shares
        self.link.receive(slot)
        parts = torch.split(self._final, self._words)
        return [share + part.reshape(share.shape) for share, part in zip(shares, parts, strict=True)]

    def _slot(self, index: int) -> Slot:
        return Slot(Phase.ONLINE, self.number, index)

    def _send(self, index: int) -> None:
        self.link.send(self._slot(index), self._state.message(index))
