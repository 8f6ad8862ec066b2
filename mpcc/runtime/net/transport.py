"""Framed channels between named peers, on which a round costs half a round trip.

The sizes of all messages are known ahead, so every receive is posted before its message comes: one thread per channel
reads from the socket straight into the buffers. Small messages leave on the caller's thread, large ones on a sender
thread, so that both directions flow at once. Payload is counted per phase, without what framing adds.

A peer that dies, leaves or breaks the protocol ends every wait of this process (`Peers`), and the others are told why.
A peer may be idle between messages for as long as the caller allows, but a message that has begun must end.
"""

from __future__ import annotations

import math
import queue
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from mpcc.errors import MpccError, PartyError, SecurityError

from .messages import MOST_BYTES, Malformed, decode, encode, printable
from .wire import Buffer, Deadline, Wire

HEADER = struct.Struct("<BBHIQQd")  # kind, phase, zero, place, number, bytes, due
DATA, LEAVE, ABORT = 1, 2, 3
DIRECT = 1 << 16
"""Bytes up to which a message is sent on the caller's thread."""
MOST_QUEUED = 64 << 20
"""Bytes that wait for a peer to read them, before `send` waits as well: a peer that never reads fills no memory."""
SLOWEST_BYTES_PER_S = 125_000
"""A message that has begun may take `timeout` and what it would take at 1 Mbit/s, not longer."""


class Phase(IntEnum):
    """What a message belongs to."""

    SEED = 1
    SETUP = 2
    ONLINE = 3
    DEAL_SETUP = 4
    DEAL = 5
    CREDIT = 6
    BATCH = 7
    AHEAD = 8


class Slot(NamedTuple):
    """Which message: its phase, its inference (0 for the set-up), its place among the messages of both."""

    phase: Phase
    number: int = 0
    place: int = 0

    def __str__(self) -> str:
        return f"message {self.place} of phase {self.phase.name.lower()}, inference {self.number}"


@dataclass(frozen=True)
class LinkModel:
    """An emulated link: messages are delivered late, as if over this link. For processes on one machine."""

    rtt_seconds: float = 0.0
    bandwidth_bytes_per_s: float = math.inf


@dataclass
class Traffic:
    """Payload bytes and messages of one phase of one inference, as counted at this end."""

    sent_bytes: int = 0
    received_bytes: int = 0
    sent_messages: int = 0
    received_messages: int = 0

    @property
    def rounds(self) -> int:
        """An exchange, or a message one way, is a round."""
        return max(self.sent_messages, self.received_messages)

    @property
    def bytes(self) -> int:
        return self.sent_bytes + self.received_bytes


class PeerLeft(Exception):
    """The peer has left in an orderly way: not an error."""


class Peers:
    """The channels of one process. The first failure of any of them ends all waits."""

    def __init__(self, me: str) -> None:
        self.me = me
        self.failure: MpccError | None = None
        self.channels: list[Channel] = []
        self._lock = threading.Lock()

    def fail(self, error: MpccError) -> None:
        with self._lock:
            self.failure = self.failure or error
        for channel in self.channels:
            channel.wake()

    def check(self, doing: str) -> None:
        """Raise the failure, saying what this process was doing."""
        failure = self.failure
        if failure is None:
            return
        if isinstance(failure, PartyError):
            raise PartyError(failure.what, where=f"{self.me}, {doing}", hint=failure.hint)
        raise failure

    def leave(self) -> None:
        """Tell all peers that this one leaves, and wait a moment until they do."""
        for channel in self.channels:
            channel.end(LEAVE)
        self._drain(2.0)

    def abort(self, error: BaseException) -> None:
        """Tell all why this process ends. Only errors made for users travel: others might say too much."""
        text = error.what if isinstance(error, MpccError) else f"internal error ({type(error).__name__})"
        if not isinstance(error, PartyError | SecurityError):
            text = f"{self.me} failed: {text}"
        data = encode({"what": printable(text), "security": isinstance(error, SecurityError)})
        for channel in self.channels:
            channel.end(ABORT, data)
        self._drain(0.5)

    def _drain(self, seconds: float) -> None:
        """Closing while the peer still sends would discard the last message."""
        deadline = time.monotonic() + seconds
        for channel in self.channels:
            channel.drain(deadline)
        self.close()

    def close(self) -> None:
        for channel in self.channels:
            channel.close()


Tap = Callable[[str, Slot, memoryview], None]
"""Sees the payload of every message: ("sent" or "received", slot, bytes)."""


class Channel:
    """A channel to one peer."""

    def __init__(
        self,
        wire: Wire,
        peer: str,
        peers: Peers,
        *,
        link: LinkModel | None = None,
        timeout: float = 120.0,
        idle: float | None = None,
        asker: str | None = None,
        tap: Tap | None = None,
    ) -> None:
        """`timeout`: seconds for a due message; `idle`: one that `asker` (None: the peer) has to act for (None: no limit)."""
        self.wire, self.peer, self.peers, self.link, self.tap = wire, peer, peers, link, tap
        self.timeout, self.idle, self.asker = timeout, idle, asker or peer
        self.traffic: defaultdict[tuple[Phase, int], Traffic] = defaultdict(Traffic)
        self._posted: queue.SimpleQueue[tuple[Slot, Tensor] | None] = queue.SimpleQueue()
        self._arrived: queue.SimpleQueue[tuple[Slot, float] | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[tuple[bool, list[Buffer]] | None] = queue.SimpleQueue()
        self.left, self._closing, self._pending, self._queued, self._free_at = False, False, 0, 0, 0.0
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        peers.channels.append(self)
        self._reader = threading.Thread(target=self._read, name=f"from {peer}", daemon=True)
        self._writer = threading.Thread(target=self._write, name=f"to {peer}", daemon=True)
        self._reader.start()
        self._writer.start()

    # -- for the caller --

    def post(self, slot: Slot, buffer: Tensor) -> None:
        """Name the buffer of a message ahead of it: int64, contiguous, not to be touched until `receive`."""
        self._posted.put((slot, buffer))

    def send(self, slot: Slot, payload: Tensor) -> None:
        """Send int64 words. The tensor must not be changed afterwards. Waits while much is queued."""
        view = bytes_of(payload.contiguous())
        self._await_room(view.nbytes)
        counted = self.traffic[slot.phase, slot.number]
        counted.sent_bytes += view.nbytes
        counted.sent_messages += 1
        if self.tap is not None:
            self.tap("sent", slot, view)
        header = HEADER.pack(DATA, slot.phase, 0, slot.place, slot.number, view.nbytes, self._due(view.nbytes))
        self._send([header, view], view.nbytes <= DIRECT)

    def receive(self, slot: Slot, *, forever: bool = False) -> None:
        """Wait until the posted buffer of `slot` is full. PeerLeft, PartyError, SecurityError.

        `forever`: whoever asks for it may be idle first, as long as `idle` allows.
        """
        doing = f"waiting for {slot} from {self.peer}"
        who, seconds = (self.asker, self.idle) if forever else (self.peer, self.timeout)
        while True:
            self.peers.check(doing)
            try:
                arrived = self._arrived.get(timeout=seconds)
            except queue.Empty:
                raise PartyError(f"{who} has been silent for {seconds:g} s", where=f"{self.peers.me}, {doing}") from None
            if arrived is not None:
                break
            self.peers.check(doing)
            if self.left:
                raise PeerLeft(self.peer)
        got, due = arrived
        if got != slot:
            raise AssertionError(f"{slot} was posted after {got}")
        if self.link is not None:
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)

    def await_leave(self) -> None:
        """Nothing more is due: PeerLeft when the peer leaves."""
        nothing = Slot(Phase.CREDIT, 2**63)
        self.post(nothing, empty(0))
        self.receive(nothing, forever=True)

    def end(self, kind: int, data: bytes = b"") -> None:
        """The last message: LEAVE, or ABORT with the reason. What still arrives is discarded."""
        self._closing = True
        self._posted.put(None)
        self._send([HEADER.pack(kind, 0, 0, 0, 0, len(data), 0.0), data], False)

    def drain(self, deadline: float) -> None:
        """Wait until everything is sent and the peer has ended too."""
        while self._pending and time.monotonic() < deadline:
            time.sleep(0.002)
        self._reader.join(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        self._closing = True
        self._posted.put(None)
        self._outbox.put(None)
        self.wire.close()

    def wake(self) -> None:
        self._arrived.put(None)

    # -- sending --

    def _await_room(self, size: int) -> None:
        with self._room:
            self.peers.check(f"sending to {self.peer}")
            while self._queued and self._queued + size > MOST_QUEUED:
                self._room.wait(1.0)
                self.peers.check(f"sending to {self.peer}")

    def _due(self, size: int) -> float:
        """When the emulated link delivers a message that leaves now: after those before it, half a round trip later."""
        if self.link is None:
            return 0.0
        start = max(time.monotonic(), self._free_at)
        self._free_at = start + (size + HEADER.size) / self.link.bandwidth_bytes_per_s
        return self._free_at + self.link.rtt_seconds / 2

    def _send(self, parts: list[Buffer], direct: bool) -> None:
        with self._lock:
            busy = self._pending > 0
            self._pending += 1
            if busy or not direct:
                self._queued += _size(parts)
        if busy or not direct:
            self._outbox.put((True, parts))
            return
        rest: list[Buffer] = []
        try:
            for sealed in self.wire.sealed(parts):
                rest += sealed if rest else self.wire.push(sealed)
        except OSError as error:
            self._lost(error)
        if rest:
            with self._lock:
                self._pending += 1
                self._queued += _size(rest)
            self._outbox.put((False, rest))
        with self._lock:
            self._pending -= 1

    def _write(self) -> None:
        while (item := self._outbox.get()) is not None:
            seal, parts = item
            try:
                for sealed in self.wire.sealed(parts) if seal else [parts]:
                    self.wire.write(sealed)
            except (OSError, ValueError) as error:
                self._reader.join(1.0)  # what the peer said before it closed tells more
                self._lost(error)
            with self._room:
                self._pending -= 1
                self._queued -= _size(parts)
                self._room.notify_all()

    # -- receiving --

    def _read(self) -> None:
        header = memoryview(bytearray(HEADER.size))
        try:
            while self._read_one(header):
                pass
        except Exception as error:  # a thread must not end in silence
            self._lost(error)

    def _read_one(self, header: memoryview) -> bool:
        self.wire.read_into(header, Deadline(self.timeout, from_first_byte=True))
        kind, phase, _, place, number, size, due = HEADER.unpack(header)
        if kind == LEAVE:
            self.left = True
            self.wake()
            return False
        if kind == ABORT:
            self._told(size)
            return False
        posted = self._posted.get()
        if posted is None:
            self._posted.put(None)
            self._discard(size)
            return True
        slot, buffer = posted
        if kind != DATA or (phase, number, place, size) != (slot.phase, slot.number, slot.place, 8 * buffer.numel()):
            self.peers.fail(self._unexpected(slot, buffer, phase, number, place, size))
            return False
        view = bytes_of(buffer)
        self.wire.read_into(view, Deadline(self.timeout + size / SLOWEST_BYTES_PER_S))
        counted = self.traffic[slot.phase, slot.number]
        counted.received_bytes += size
        counted.received_messages += 1
        if self.tap is not None:
            self.tap("received", slot, view)
        self._arrived.put((slot, due))
        return True

    def _discard(self, size: int) -> None:
        """Read past what is not wanted: closing with it unread would discard the last message sent."""
        discarded = memoryview(bytearray(min(size, 1 << 20)))
        while size:
            part = discarded[:size]
            self.wire.read_into(part, Deadline(self.timeout))
            size -= part.nbytes

    def _told(self, size: int) -> None:
        """The reason why the peer ends the session, in its own words."""
        data = bytearray(min(size, MOST_BYTES))
        self.wire.read_into(memoryview(data), Deadline(self.timeout))
        try:
            said = decode(data)
            what, security = printable(said["what"]), said["security"] is True
        except (Malformed, KeyError):
            what, security = "an unreadable reason", False
        if not self._closing:
            self.peers.fail(SecurityError(what, where=f"told by {self.peer}") if security else PartyError(what))

    def _unexpected(self, slot: Slot, buffer: Tensor, phase: int, number: int, place: int, size: int) -> SecurityError:
        known = phase in set(Phase)
        got = f"{Slot(Phase(phase), number, place)}" if known else f"phase {phase}"
        replay = ": a replay" if phase == slot.phase and number < slot.number else ""
        return SecurityError(
            f"{self.peer} sent {got} ({size} bytes) where {slot} ({8 * buffer.numel()} bytes) is due{replay}",
            where=f"{self.peers.me}: channel to {self.peer}",
        )

    def _lost(self, error: BaseException) -> None:
        if self._closing or self.left:
            return
        if isinstance(error, EOFError):
            reason = "ended unexpectedly"
        elif isinstance(error, TimeoutError):
            reason = f"stopped in the middle of a message ({error})"
        else:
            reason = f"is lost ({error})"
        self.peers.fail(PartyError(f"{self.peer} {reason}"))


def _size(parts: list[Buffer]) -> int:
    return sum(memoryview(part).nbytes for part in parts)


def empty(words: int) -> Tensor:
    """A buffer to receive into."""
    return torch.empty(words, dtype=torch.int64)


def bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    return memoryview(tensor.numpy().reshape(-1).view("uint8")) if tensor.numel() else memoryview(b"")  # type: ignore[arg-type]
