"""Ask a private model: share an input between two servers, add up the two shares of the answer."""

from __future__ import annotations

import math
import random
import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpcc.errors import MissingDependency, MpccError, PartyError, RangeError, SecurityError, ShapeError, UsageError

from .model import Model
from .prefix import Given, Prefix, own
from .preprocess import Floats
from .shares import encoded, joined, split
from .web import Reply, Site, Ticket

ID_BYTES = DIGEST_BYTES = 16
MODEL, INFER, PREFIX = "/v1/model", "/v1/infer", "/v1/prefix"
SOON_SECONDS = 0.5
"""How long to wait before another attempt where the server does not say."""
PATIENT = (408, 503)
"""Statuses after which another attempt makes sense."""


@dataclass(frozen=True)
class Answer:
    """`outputs`: the model's, with the noise that it adds (its standard deviation is in the model's document). `warnings`: what
    of input and output is unlike calibration, so that the answer may be wrong. `seconds`: of the attempt that was answered.
    `opened`: what the servers computed; the outputs themselves, unless a last softmax, argmax or top-k is left to the client.
    `top`: the class that the first output names first: where it is largest, or the class itself."""

    outputs: tuple[Floats, ...]
    seconds: float
    warnings: tuple[str, ...]
    labels: tuple[str, ...]
    opened: tuple[Floats, ...]
    top: int

    @property
    def output(self) -> Floats:
        return self.outputs[0]

    @property
    def label(self) -> str:
        """The name of the class, or its number where the model names none."""
        return self.labels[self.top] if self.top < len(self.labels) else str(self.top)


class Client:
    """The two servers of a model. May be shared by threads; nothing of an input is kept."""

    def __init__(
        self,
        server: str | Sequence[str],
        helper: str | Sequence[str],
        *,
        server_authority: str | Path | None = None,
        helper_authority: str | Path | None = None,
        digest: str | None = None,
        strict: bool = False,
        timeout: float = 60.0,
        attempts: int = 4,
        allow_plain: bool = False,
        prefix: str | Path | None = None,
    ) -> None:
        """Addresses of the server and of the helper; of several replicas, in the same order: those of one place belong together.

        `server_authority`, `helper_authority`: PEM files of who signs their certificates; two files are better than one, since
        whoever can pose as both sees inputs. `digest`: the model that is expected, if it is known. `strict`: refuse inputs
        unlike those of calibration. `timeout`: seconds without an answer. `attempts`: with new shares each time, where a
        server is busy or lost. `prefix`: a copy of the model's public part (public/prefix.onnx in the bundle), where it has one,
        which is otherwise fetched from the server. SecurityError where both are one, serve different models, or take each
        other's part.
        """
        servers, helpers = _several(server), _several(helper)
        if len(servers) != len(helpers) or not servers:
            raise UsageError(f"{len(servers)} servers and {len(helpers)} helpers", hint="as many of the one as of the other")
        self.pairs = [
            (
                Site(one, authority=server_authority, timeout=timeout, allow_plain=allow_plain),
                Site(other, authority=helper_authority, timeout=timeout, allow_plain=allow_plain),
            )
            for one, other in zip(servers, helpers, strict=True)
        ]
        if any(one.place == other.place for one, _ in self.pairs for _, other in self.pairs):
            raise SecurityError("server and helper are one: it would see the input", hint="two servers, of two organisations")
        self.strict, self.attempts, self.expected = strict, max(1, attempts), digest
        self._turn = random.randrange(len(self.pairs))
        self._lock = threading.Lock()
        self._model: Model | None = None
        self._prefix: Prefix | None = None
        self._own_prefix = prefix

    @property
    def model(self) -> Model:
        """What the servers say of their model; they must agree. Read once."""
        with self._lock:
            if self._model is None:
                self._model = self._read()
            return self._model

    @property
    def prefix(self) -> Prefix:
        """The public part of the model, which this client computes itself: fetched once. UsageError where there is none."""
        given = self.model.prefix
        if given is None:
            raise UsageError("all of this model's parameters are secret: it has no public part")
        with self._lock:
            if self._prefix is None:
                self._prefix = self._fetched(given) if self._own_prefix is None else own(self._own_prefix, given)
            return self._prefix

    def predict(self, picture: Any) -> Answer:
        """The answer for a picture: pixels 0..255 as an array [height, width(, channels)], a PIL image, or the path of a file.

        An array in the model's own input shape is taken as it is: already normalised. ShapeError, RangeError, PartyError.
        """
        taken = self.model.taken
        wanted = taken[0]
        if isinstance(picture, str | Path):
            picture = opened(picture)
        values = np.asarray(picture)
        if values.shape == wanted:
            return self.ask(values)
        made = self._preprocessed(values)
        if made.size != math.prod(wanted) or len(taken) != 1:
            raise ShapeError(f"the picture became {list(made.shape)}, the model takes {list(wanted)}")
        return self.ask(made.reshape(wanted))

    def ask(self, *inputs: NDArray[Any]) -> Answer:
        """The answer for inputs of the model's own shapes, normalised."""
        model, values = self.model, [np.asarray(value, dtype=np.float64) for value in inputs]
        if model.prefix is not None:
            values = self.prefix(values, [one.shape for one in model.inputs])
        words = encoded(values, model.inputs)
        warnings = [] if model.ranges is None else model.ranges.inputs_outside(values)
        if warnings and self.strict:
            raise RangeError("; ".join(warnings), hint="Nothing was sent.")
        for attempt in range(1, self.attempts + 1):
            start = time.perf_counter()
            try:
                first, second = self._exchange(self._pair(), words, model)
                break
            except _Later as later:
                if attempt == self.attempts:
                    raise later.error from None
                time.sleep(later.seconds * random.uniform(1.0, 1.5))
        opened = tuple(joined(first, second, model.outputs))
        seconds = time.perf_counter() - start
        warnings += [] if model.ranges is None else model.ranges.outputs_outside(opened)
        labels = () if model.preprocess is None else model.preprocess.labels
        if model.answers is None:
            return Answer(opened, seconds, tuple(warnings), labels, opened, int(np.argmax(opened[0])))
        return Answer(model.answers.of(opened), seconds, tuple(warnings), labels, opened, model.answers.top(opened))

    def close(self) -> None:
        """Close the connections that are kept."""
        for pair in self.pairs:
            for site in pair:
                site.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes of HTTP sent and received so far, headers included, without what TLS adds."""
        sites = [site for pair in self.pairs for site in pair]
        return sum(site.sent for site in sites), sum(site.received for site in sites)

    # -- inside --

    def _read(self) -> Model:
        found = []
        error: MpccError | None = None
        for pair in self.pairs:
            try:
                found = [Model.read(site.document(MODEL), site.url) for site in pair]
                break
            except PartyError as lost:
                error = lost
        if not found:
            assert error is not None
            raise error
        server, helper = found
        if (server.role, helper.role) != ("server", "helper"):
            what = f"they say that they are {server.role!r} and {helper.role!r}"
            raise SecurityError(what, hint="Give the server's address first, then the helper's.")
        described = [(one.digest, one.inputs, one.outputs, one.answers, one.prefix) for one in (server, helper)]
        if described[0] != described[1]:
            raise SecurityError("server and helper serve different models")
        if self.expected is not None and self.expected != server.digest:
            raise SecurityError(f"the model served is {server.digest[:16]}..., {self.expected[:16]}... was expected")
        return server

    def _fetched(self, given: Given) -> Prefix:
        """From the first server that answers; what it is, server and helper have both said."""
        error: MpccError | None = None
        for site, _ in self.pairs:
            try:
                return Prefix(given, site.file(PREFIX, given.bytes), site.url)
            except PartyError as lost:
                error = lost
        assert error is not None
        raise error

    def _preprocessed(self, values: NDArray[Any]) -> Floats:
        if self.model.preprocess is None:
            shape = list(self.model.taken[0])
            hint = "Its owner can add it: mpcc optimize ... --preprocess FILE."
            raise ShapeError(f"the model says nothing of preprocessing, so an array of shape {shape} is needed", hint=hint)
        return self.model.preprocess(values)

    def _pair(self) -> tuple[Site, Site]:
        with self._lock:
            self._turn = (self._turn + 1) % len(self.pairs)
            return self.pairs[self._turn]

    def _exchange(self, pair: tuple[Site, Site], words: NDArray[np.uint64], model: Model) -> tuple[bytes, bytes]:
        """Both shares out, both shares of the answer in; new shares and a new id in every attempt."""
        head = secrets.token_bytes(ID_BYTES) + bytes.fromhex(model.digest)[:DIGEST_BYTES]
        most = 8 * sum(output.words for output in model.outputs)
        tickets = [Ticket(), Ticket()]
        with ThreadPoolExecutor(2) as pool:
            asked = [
                pool.submit(_asked, site, head + share, most, ticket)
                for site, share, ticket in zip(pair, split(words), tickets, strict=True)
            ]
            done, waiting = wait(asked, return_when=FIRST_EXCEPTION)
            for one, ticket in zip(asked, tickets, strict=True):
                if one in waiting:
                    ticket.end()
        failed = [error for one in done if (error := one.exception()) is not None]
        if failed:
            raise failed[0]
        return asked[0].result(), asked[1].result()


class _Later(Exception):
    """An attempt that may go better later."""

    def __init__(self, error: MpccError, seconds: float) -> None:
        super().__init__(str(error))
        self.error, self.seconds = error, seconds


def _asked(site: Site, body: bytes, size: int, ticket: Ticket) -> bytes:
    """One server's share of the answer."""
    try:
        reply = site.call("POST", INFER, body, max(size, 1 << 16), ticket)
    except PartyError as error:
        raise _Later(error, SOON_SECONDS) from None
    if reply.status == 200 and len(reply.body) == size:
        return reply.body
    raise _refusal(site, reply, size)


def _refusal(site: Site, reply: Reply, size: int) -> Exception:
    if reply.status == 200:
        return PartyError(f"an answer of {len(reply.body)} bytes, {size} are due", where=site.url)
    error = PartyError(f"HTTP {reply.status}: {reply.reason}", where=site.url)
    if reply.status not in PATIENT:
        return error
    return _Later(error, SOON_SECONDS if reply.retry_after is None else min(reply.retry_after, 30.0))


def opened(path: str | Path) -> NDArray[Any]:
    """A picture's pixels, or an array of a .npy file. UsageError for what cannot be read."""
    place = Path(path)
    try:
        if place.suffix == ".npy":
            loaded: NDArray[Any] = np.load(place, allow_pickle=False)
            return loaded
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"cannot be read: {error}", where=str(place)) from None
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise MissingDependency("reading pictures needs Pillow", hint="pip install pillow, or give an array") from None
    try:
        with Image.open(place) as file:
            turned = ImageOps.exif_transpose(file) or file
            return np.asarray(turned.convert("L" if turned.mode in ("1", "L", "I", "I;16", "F") else "RGBA"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"not a picture that can be read: {error}", where=str(place)) from None


def _several(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
