"""Requests that wait at one party: a share each, and who waits for the answer.

    request = desk.add(id, words)          Refused: the queue is full, or the id is known
    await asyncio.wrap_future(request.answer)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

from .served import Words


class Refused(Exception):
    """A request that is not answered: an HTTP status, the reason, and after how many seconds another attempt makes sense."""

    def __init__(self, status: int, reason: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.retry_after = status, reason, retry_after


@dataclass(eq=False)
class Request:
    """One share, and the answer's share to come. `taken`: it has been given to a computation."""

    id: bytes
    words: Words
    answer: Future[bytes] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)
    taken: bool = False

    def finish(self, body: bytes) -> None:
        """Answer it; whoever asked may have gone."""
        try:
            self.answer.set_result(body)
        except InvalidStateError:
            pass

    def refuse(self, reason: Refused) -> None:
        try:
            self.answer.set_exception(reason)
        except InvalidStateError:
            pass

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.answer.cancelled()


class Desk:
    """The requests of one party, from their arrival until they are answered."""

    def __init__(self, most: int) -> None:
        """`most`: requests at a time, those that are computed included."""
        self.most = most
        self.lock = threading.Condition()
        self.requests: dict[bytes, Request] = {}

    def add(self, number: bytes, words: Words) -> Request:
        """Keep a request."""
        with self.lock:
            if number in self.requests:
                raise Refused(409, "a request of this id is being answered: every request needs an id of its own")
            if len(self.requests) >= self.most:
                raise Refused(503, f"{self.most} requests wait already", 1)
            request = Request(number, words)
            self.requests[number] = request
            return request

    def take(self, numbers: Sequence[bytes]) -> list[Request | None]:
        """The requests of these ids, to be computed; None where there is none (any more)."""
        with self.lock:
            found = [self.requests.get(number) for number in numbers]
            for request in found:
                if request is not None:
                    request.taken = True
            return found

    def forget(self, request: Request) -> None:
        """It is answered, or nobody waits for it."""
        with self.lock:
            if self.requests.get(request.id) is request:
                del self.requests[request.id]

    def overdue(self, seconds: float, which: Callable[[Request], bool] = lambda _: True) -> list[Request]:
        """Requests that have waited longer than this and are not being computed; they are forgotten here."""
        before = time.monotonic() - seconds
        with self.lock:
            found = [r for r in self.requests.values() if not r.taken and r.arrived < before and which(r)]
            for request in found:
                del self.requests[request.id]
            return found

    def __len__(self) -> int:
        return len(self.requests)
