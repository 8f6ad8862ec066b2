"""At the server: requests of which both shares are here, and which computation takes which of them.

A request is *ready* when its share has come here and the helper has said that it holds the other one. A *lane* is a session
with the helper and the dealer for one batch size, prepared and idle until it is given work. At most `in_flight` lanes compute
at a time; meanwhile requests gather, and the next lane takes as many as it can.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from .desk import Desk, Refused, Request
from .served import Words

GATHER_SECONDS = 0.01
"""How long a request waits for others to share its rounds: clients that got the answers of one batch ask again within a few
milliseconds of each other, and one computation takes tens of them even on loopback."""
LOOK_SECONDS = 0.5
"""How often an idle lane looks whether it should stop."""
MOST_ANNOUNCED = 4096
"""Ids that the helper has told and whose other share has not come: a stranger's must not fill memory."""


@dataclass(eq=False)
class Waiting:
    """An idle lane."""

    size: int
    work: list[Request] = field(default_factory=list)


class Queue:
    """Matches shares and gives ready requests to lanes."""

    def __init__(self, desk: Desk, in_flight: int) -> None:
        self.desk, self.in_flight = desk, in_flight
        self.running = 0
        self.lanes: dict[int, int] = {}
        """Batch size -> lanes that are set up."""
        self.idle: list[Waiting] = []
        self._changed = desk.lock
        self._announced: dict[bytes, float] = {}
        self._ready: deque[Request] = deque()
        self._gathered_at = 0.0
        """Until when the requests that are ready wait for others."""

    # -- requests --

    def add(self, number: bytes, words: Words) -> Request:
        """A request of which our share has come. Refused."""
        if not self.lanes:
            raise Refused(503, "no session with the helper and the dealer: one of them is away or is being set up", 2)
        request = self.desk.add(number, words)
        with self._changed:
            if self._announced.pop(number, None) is not None:
                self._now_ready(request)
        return request

    def announced(self, number: bytes) -> None:
        """The helper holds its share of this request."""
        with self._changed:
            request = self.desk.requests.get(number)
            if request is None:
                self._announced[number] = time.monotonic()
                while len(self._announced) > MOST_ANNOUNCED:
                    del self._announced[next(iter(self._announced))]
            elif not request.taken and request not in self._ready:
                self._now_ready(request)

    def withdrawn(self, number: bytes) -> None:
        """The helper does not hold it any more."""
        with self._changed:
            self._announced.pop(number, None)
            self._ready = deque(request for request in self._ready if request.id != number)

    def helper_lost(self) -> None:
        """What the helper held is unknown: it tells again when it is back."""
        with self._changed:
            self._announced.clear()
            self._ready.clear()

    def expire(self, pair_seconds: float, wait_seconds: float) -> None:
        """Refuse what has waited too long."""
        with self._changed:
            ready = set(self._ready)
            old = time.monotonic() - pair_seconds
            self._announced = {number: when for number, when in self._announced.items() if when > old}
        lonely = self.desk.overdue(pair_seconds, lambda request: request not in ready)
        for request in lonely:
            request.refuse(Refused(408, f"the other share did not reach the helper within {pair_seconds:g} s"))
        late = self.desk.overdue(wait_seconds)
        for request in late:
            request.refuse(Refused(503, f"not begun within {wait_seconds:g} s: too many requests wait", 5))
        if late:
            with self._changed:
                self._ready = deque(request for request in self._ready if request not in set(late))

    @property
    def waiting(self) -> int:
        """Requests that are ready and wait for a lane."""
        return len(self._ready)

    # -- lanes --

    def opened(self, size: int) -> None:
        with self._changed:
            self.lanes[size] = self.lanes.get(size, 0) + 1

    def closed(self, size: int) -> None:
        with self._changed:
            self.lanes[size] -= 1
            if not self.lanes[size]:
                del self.lanes[size]

    def next(self, size: int, alive: Callable[[], bool]) -> list[Request]:
        """Work for an idle lane, which must end in `done`; nothing if the lane is not alive any more."""
        lane = Waiting(size)
        with self._changed:
            self.idle.append(lane)
            self._assign()
            while not lane.work:
                self._changed.wait(self._pause())
                self._assign()
                if not lane.work and not alive():
                    self.idle.remove(lane)
                    return []
            if alive():
                return lane.work
            for request in reversed(lane.work):  # nobody was told: another lane can take them
                request.taken = False
                self._ready.appendleft(request)
            self.running -= 1
            self._assign()
            return []

    def done(self) -> None:
        """A lane has computed what it was given, or has failed."""
        with self._changed:
            self.running -= 1
            self._assign()

    def _now_ready(self, request: Request) -> None:
        if not self._ready:
            self._gathered_at = time.monotonic() + GATHER_SECONDS
            self._changed.notify_all()  # idle lanes look again when it is over
        self._ready.append(request)
        self._assign()

    def _pause(self) -> float:
        """How long an idle lane sleeps if nothing happens."""
        left = self._gathered_at - time.monotonic()
        return min(LOOK_SECONDS, left + 1e-4) if self._ready and left > 0 else LOOK_SECONDS

    def _chosen(self, count: int) -> Waiting:
        """The idle lane for so many requests."""
        sizes = [lane.size for lane in self.idle]
        whole = [size for size in sizes if count <= size < 2 * count]
        filled = [size for size in sizes if size <= count]
        size = min(whole) if whole else max(filled) if filled else min(sizes)
        return next(lane for lane in self.idle if lane.size == size)

    def _assign(self) -> None:
        """Give ready requests to idle lanes: to one that takes all of them and is more than half full, else to the largest that
        they fill. Empty places cost as much as requests do: bytes on both links, and work."""
        while self._ready and self.idle and self.running < self.in_flight:
            if time.monotonic() < self._gathered_at and len(self._ready) < max(lane.size for lane in self.idle):
                return
            lane = self._chosen(len(self._ready))
            while self._ready and len(lane.work) < lane.size:
                request = self._ready.popleft()
                if not request.gone:
                    request.taken = True
                    lane.work.append(request)
            if lane.work:
                self.idle.remove(lane)
                self.running += 1
                self._changed.notify_all()
