"""Correlated randomness in files: the dealer writes them beforehand, one per party, and need not be there later.

    deal_to_files(program, version, folder, count)   -> folder/server.material, folder/client.material

    {"format": ..., "role": "client", "session": ..., "program": ..., "model": ..., "count": ...} newline
    seed (32 bytes), tag of the header (32 bytes)
    blocks, each followed by its tag: the set-up, then inference 0, 1, ...; 64-bit words, little-endian

Used once. Each file belongs to one program, one version of the model and one session, and serves `count` inferences.
Before its first mask is used, the use is noted in the user's home (`used.py`) and the seed is erased from the file, both
on disk for good: neither the file nor a copy of it serves again on this machine, whatever crashes meanwhile. A copy on
another machine, or in a container with a home of its own, is not seen here; it is refused by the other party, whose own
file of the same session has been used, unless that one was copied too.

Damage. A tag is HMAC-SHA-256 over the session, the role, the block's number and its data, under a key derived from the
seed. A changed, moved or swapped block is refused before it is used. The key lies in the same file, so a tag does not
stop somebody who can read and write the file: he could read the party's masks as well. Bring each party its own file
over a secure channel; both together reveal everything.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from torch import Tensor

from mpcc.errors import BundleError, PartyError, SecurityError, UsageError
from mpcc.files import replacing
from mpcc.program.check import check_masks
from mpcc.program.program import Program

from ..device.device import CPU, Device
from ..net.handshake import CLIENT, SERVER, SESSION_ID
from ..net.messages import MOST_BYTES, Malformed, Message, decode, encode, printable
from ..net.transport import Slot, bytes_of
from . import used
from .dealing import MaterialExhausted, ReplayGuard, SessionSeeds, cut, frames, send_dealt
from .material import Recipe, Seeds
from .randomness import SEED_BYTES, derive

FORMAT = "mpcc material 3"
TAG_BYTES = 32
AGAIN = "Let the dealer write new files for both parties."


def deal_to_files(
    program: Program, model_version: str, folder: Path, count: int, device: Device = CPU
) -> dict[str, Path]:
    """Write both parties' material for `count` inferences; role -> file. What fails half-way leaves no file."""
    if count < 1:
        raise UsageError(f"material for {count} inferences")
    check_masks(program)
    seeds, recipe = SessionSeeds.fresh(), Recipe(program, device)
    common: Message = {"session": secrets.token_hex(16), "program": program.digest, "model": model_version, "count": count}
    made = {role: folder / f"{role}.material" for role in (SERVER, CLIENT)}
    with _written(folder, made) as files:
        links = (
            _Writer(files[SERVER], common | {"role": SERVER}, seeds.server),
            _Writer(files[CLIENT], common | {"role": CLIENT}, seeds.client),
        )
        send_dealt(recipe, links, *seeds.numbered(0), 0, setup=True)
        for number in range(count):
            send_dealt(recipe, links, *seeds.numbered(number), number)
    return made


class _Tags:
    """The tags of one file: block 0 is the header."""

    def __init__(self, seed: bytes, session: str, role: str) -> None:
        self.key, self.context = derive(seed, "tags of a material file"), f"{session} {role} ".encode()

    def tag(self, number: int, data: bytes | memoryview) -> bytes:
        made = hmac.new(self.key, self.context + number.to_bytes(8, "little"), "sha256")
        made.update(data)
        return made.digest()


class _Writer:
    """A link that goes into a file."""

    def __init__(self, file: IO[bytes], header: Message, seed: bytes) -> None:
        self.file, self.number = file, 0
        self.tags = _Tags(seed, str(header["session"]), str(header["role"]))
        line = encode({"format": FORMAT} | header) + b"\n"
        file.write(line + seed + self.tags.tag(0, line))

    def post(self, slot: Slot, buffer: Tensor) -> None:
        raise NotImplementedError

    def send(self, slot: Slot, payload: Tensor) -> None:
        data = bytes_of(payload.contiguous())
        self.number += 1
        self.file.write(data)
        self.file.write(self.tags.tag(self.number, data))

    def receive(self, slot: Slot, *, forever: bool = False) -> None:
        raise NotImplementedError


@contextmanager
def _written(folder: Path, made: dict[str, Path]) -> Iterator[dict[str, IO[bytes]]]:
    """New private files that appear together, whole, or not at all. One dealer at a time in a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            if taken := [path for path in made.values() if os.path.lexists(path)]:
                raise UsageError("there is material already; it is never overwritten", where=str(taken[0]))
            try:
                with ExitStack() as stack:
                    parts = [stack.enter_context(replacing(p, private=True, overwrite=False)) for p in made.values()]
                    with ExitStack() as opened:
                        files = [opened.enter_context(part.open("xb")) for part in parts]
                        yield dict(zip(made, files, strict=True))
            except BaseException:
                for path in made.values():  # one may be there already
                    path.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise PartyError(f"the material cannot be written: {error.strerror}", where=str(folder)) from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """No other dealer writes into the folder meanwhile: it holds a lock on the folder itself, which ends with it."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _lock(number):
            raise UsageError("another dealer is writing into this folder", where=str(folder))
        yield
    finally:
        os.close(number)


def _lock(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class FromFile:
    """Material of one party from its file. `session` is the session that both files belong to."""

    def __init__(self, program: Program, party: int, path: Path, model_version: str, device: Device = CPU) -> None:
        """BundleError for a damaged file, SecurityError for one that was made for another use or was used."""
        self.path, self.party = path, party
        self.recipe, self.replay_guard = Recipe(program, device), ReplayGuard()
        self.groups = {setup: frames(self.recipe, setup, party) for setup in (True, False)}
        self.file = _opened(path)
        try:
            header, line, self.seed, tag = self._header()
            role = SERVER if party == 0 else CLIENT
            wanted = {"role": role, "program": program.digest, "model": model_version}
            differing = [f"{k}: {printable(header[k])[:16]}, not {v[:16]}" for k, v in wanted.items() if header[k] != v]
            if differing:
                raise SecurityError(f"the material was made for another use ({'; '.join(differing)})", where=str(path))
            self.session, self.count = str(header["session"]), int(header["count"] or 0)
            if not any(self.seed) or used.was_used(self.session, party):
                raise self._used()
            self.tags, self.number = _Tags(self.seed, self.session, role), 0
            if not hmac.compare_digest(self.tags.tag(0, line), tag):
                raise self._damaged("the header is not what the dealer wrote")
            self._check_size()
        except BaseException:
            self.close()
            raise

    def setup(self) -> dict[str, Tensor | None]:
        self._use()
        shares = self.recipe.expand(self.party, Seeds.of(self.seed, 0), True)
        return shares | self._read(True)

    def inference(self, number: int) -> dict[str, Tensor | None]:
        self.replay_guard.use(number)
        if number >= self.count:
            raise MaterialExhausted(f"the material was for {self.count} inferences, all are used", where=str(self.path))
        shares = self.recipe.expand(self.party, Seeds.of(self.seed, number), False)
        return shares | self._read(False)

    def finished(self, number: int) -> None:
        pass

    def close(self) -> None:
        self.file.close()

    def _header(self) -> tuple[Message, bytes, bytes, bytes]:
        """The header's fields, its line, the seed and the tag."""
        try:
            head = self.file.read(MOST_BYTES)
            line, newline, _ = head.partition(b"\n")
            header = decode(line) if newline else {}
            if header.get("format") != FORMAT:
                raise Malformed(f"the format is {printable(header.get('format'))}, not {FORMAT}")
            texts = ("role", "program", "model", "session")
            if not all(isinstance(header.get(k), str) for k in texts) or type(header.get("count")) is not int:
                raise Malformed("the header is incomplete")
            if SESSION_ID.fullmatch(str(header["session"])) is None:
                raise Malformed("the header names no session")
        except (OSError, Malformed) as error:
            raise BundleError(f"not a material file: {error}", where=str(self.path), hint=AGAIN) from None
        self.seed_at = len(line) + 1
        self.file.seek(self.seed_at)
        secret = self.file.read(SEED_BYTES + TAG_BYTES)
        return header, line + newline, secret[:SEED_BYTES], secret[SEED_BYTES:]

    def _check_size(self) -> None:
        sizes = {
            setup: sum(8 * sum(chunk.words for chunk in group) + TAG_BYTES for group in groups)
            for setup, groups in self.groups.items()
        }
        whole = self.seed_at + SEED_BYTES + TAG_BYTES + sizes[True] + self.count * sizes[False]
        size = os.fstat(self.file.fileno()).st_size
        if size != whole:
            raise self._damaged(f"the file has {size} bytes, {whole} were written")

    def _use(self) -> None:
        """Note the use and erase the seed: on disk before anything is used, and no two processes get past this."""
        if not used.mark(self.session, self.party):
            raise self._used()
        try:
            self.file.seek(self.seed_at)
            self.file.write(bytes(SEED_BYTES + TAG_BYTES))
            os.fsync(self.file.fileno())
        except OSError as error:
            raise SecurityError(f"the seed cannot be erased ({error.strerror})", where=str(self.path)) from None

    def _used(self) -> SecurityError:
        what = "this material was used already: masks must never be used twice"
        return SecurityError(what, where=str(self.path), hint=AGAIN)

    def _damaged(self, what: str) -> BundleError:
        return BundleError(f"the material is damaged: {what}", where=str(self.path), hint=AGAIN)

    def _read(self, setup: bool) -> dict[str, Tensor | None]:
        shares: dict[str, Tensor | None] = {}
        for group in self.groups[setup]:
            buffer = self.recipe.device.buffer(sum(chunk.words for chunk in group))
            data, tag = bytes_of(buffer), bytearray(TAG_BYTES)
            self.number += 1
            self._fill(data)
            self._fill(memoryview(tag))
            if not hmac.compare_digest(self.tags.tag(self.number, data), tag):
                raise self._damaged(f"block {self.number} is not what the dealer wrote")
            shares.update(cut(group, self.recipe.device.on_it(buffer)))
        return shares

    def _fill(self, view: memoryview) -> None:
        while view.nbytes:
            count = self.file.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise self._damaged("it ends too early")
            view = view[count:]


def _opened(path: Path) -> IO[bytes]:
    """A regular file, locked for this process. BundleError, SecurityError."""
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC), "r+b", buffering=0)
    except OSError as error:
        raise BundleError(f"the material cannot be read: {error.strerror}", where=str(path), hint=AGAIN) from None
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise BundleError("not a material file: not a regular file", where=str(path), hint=AGAIN)
        if not _lock(file.fileno()):
            raise SecurityError("this material is in use by another process", where=str(path))
    except BaseException:
        file.close()
        raise
    return file
