"""Correlated randomness in files: the dealer writes them beforehand, one file a party, and need not be there later.

    deal_to_files(program, version, folder, count)   -> folder/server.material, folder/client.material

Each file belongs to one program, one version of the model and one session, serves `count` inferences, and is used
once: before the first mask is used a mark is left beside it and the session is noted among this user's used ones
(`$XDG_STATE_HOME/mpcc/used`), both on disk for good, so neither the file nor a copy of it serves again, whatever crashes
meanwhile. Bring each party its own file over a private way: both together reveal everything.

    {"format": ..., "role": "client", "session": ..., "program": ..., "model": ..., "seed": ..., "count": ...} newline
    set-up messages, then those of inference 0, 1, ... (client only): 64-bit words, little-endian
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from mpcc.errors import BundleError, PartyError, SecurityError, UsageError
from mpcc.files import replacing
from mpcc.program.check import check_masks
from mpcc.program.program import Program

from ..net.handshake import CLIENT, SERVER
from ..net.transport import Slot, bytes_of, empty
from .dealing import MaterialExhausted, ReplayGuard, SessionSeeds, cut, frames, send_dealt
from .material import Recipe, Seeds

FORMAT = "mpcc material 1"
MOST_HEADER = 4096


def deal_to_files(program: Program, model_version: str, folder: Path, count: int) -> dict[str, Path]:
    """Write both parties' material for `count` inferences; role -> file. What fails half-way leaves no file."""
    if count < 1:
        raise UsageError(f"material for {count} inferences")
    check_masks(program)
    seeds, recipe = SessionSeeds.fresh(), Recipe(program)
    common = {
        "format": FORMAT,
        "session": secrets.token_hex(16),
        "program": program.digest,
        "model": model_version,
        "count": count,
    }
    folder.mkdir(parents=True, exist_ok=True)
    made = {role: folder / f"{role}.material" for role in (SERVER, CLIENT)}
    with _written(made[CLIENT]) as file:
        _header(file, common | {"role": CLIENT, "seed": seeds.client.hex()})
        link = _Writer(file)
        send_dealt(recipe, link, *seeds.numbered(0), 0, setup=True)
        for number in range(count):
            send_dealt(recipe, link, *seeds.numbered(number), number)
        with _written(made[SERVER]) as small:  # inside: both or none
            _header(small, common | {"role": SERVER, "seed": seeds.server.hex()})
    return made


class _Writer:
    """A link that goes into a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def post(self, slot: Slot, buffer: Tensor) -> None:
        raise NotImplementedError

    def send(self, slot: Slot, payload: Tensor) -> None:
        self.file.write(bytes_of(payload.contiguous()))

    def receive(self, slot: Slot, *, forever: bool = False) -> None:
        raise NotImplementedError


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    """A new private file that appears whole or not at all."""
    if path.exists() or _mark(path).exists():
        raise UsageError("material is there already; it is never overwritten", where=str(path))
    try:
        with replacing(path, private=True, overwrite=False) as part, part.open("wb") as file:
            yield file
    except FileExistsError:
        raise UsageError("material is there already; it is never overwritten", where=str(path)) from None
    except OSError as error:
        raise PartyError(f"the material cannot be written: {error.strerror}", where=str(path)) from None


def _header(file: IO[bytes], fields: dict[str, Any]) -> None:
    file.write(json.dumps(fields).encode() + b"\n")


def _mark(path: Path) -> Path:
    return path.with_name(path.name + ".used")


def _record(session: str, party: int) -> Path:
    """Where this user notes that a session's material was used: a copy of the file elsewhere is refused too."""
    given = os.environ.get("XDG_STATE_HOME", "")
    state = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "state"
    return state / "mpcc" / "used" / f"{session}.{party}"


def _lasting(path: Path) -> None:
    """A new empty file that outlives a crash of the machine. FileExistsError if it is there."""
    _synced(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    _synced(path.parent)


def _synced(path: Path, flags: int = os.O_RDONLY) -> None:
    """Written to the disk: a file, or a folder's entries."""
    number = os.open(path, flags, 0o600)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class FromFile:
    """Material of one party from its file. `session` is the session that both files belong to."""

    def __init__(self, program: Program, party: int, path: Path, model_version: str) -> None:
        self.path, self.party = path, party
        self.recipe, self.replay_guard = Recipe(program), ReplayGuard()
        try:
            self.file = path.open("rb", buffering=0)
            header = json.loads(self._line())
            self.seed = bytes.fromhex(header["seed"])
            self.session, self.count = str(header["session"]), int(header["count"])
            found = {name: header[name] for name in ("format", "role", "program", "model")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"no material: {error}", where=str(path), hint="Let the dealer write it again.") from None
        role = SERVER if party == 0 else CLIENT
        wanted = {"format": FORMAT, "role": role, "program": program.digest, "model": model_version}
        differing = [f"{n}: {found[n][:16]}, not {wanted[n][:16]}" for n in wanted if found[n] != wanted[n]]
        if differing:
            raise SecurityError(f"the material was made for another use ({'; '.join(differing)})", where=str(path))
        self.groups = {setup: frames(self.recipe, setup) if party == 1 else [] for setup in (True, False)}
        words = {setup: sum(p.words for group in groups for p in group) for setup, groups in self.groups.items()}
        whole = self.file.tell() + 8 * (words[True] + self.count * words[False])
        if path.stat().st_size != whole:
            raise BundleError(f"{path.stat().st_size} bytes, {whole} were written: damaged", where=str(path))
        if not (len(self.session) == 32 and set(self.session) <= set("0123456789abcdef")):
            raise BundleError("the header names no session: damaged", where=str(path))
        if _mark(path).exists() or _record(self.session, party).exists():
            raise self._used()

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

    def _use(self) -> None:
        """Leave the marks. They are on disk before anything is used, and no two processes can leave them."""
        for mark in (_mark(self.path), _record(self.session, self.party)):
            try:
                mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                _lasting(mark)
            except FileExistsError:
                raise self._used() from None
            except OSError as error:
                raise SecurityError(
                    f"no mark of use can be left ({error.strerror})",
                    where=str(mark),
                    hint="Masks must not be used before that: make room or give rights there.",
                ) from None

    def _used(self) -> SecurityError:
        return SecurityError(
            "this material was used already: masks must never be used twice",
            where=str(self.path),
            hint="Let the dealer write new files for both parties.",
        )

    def _line(self) -> bytes:
        head = self.file.read(MOST_HEADER)
        line, newline, _ = head.partition(b"\n")
        if not newline:
            raise ValueError("no header")
        self.file.seek(len(line) + 1)
        return line

    def _read(self, setup: bool) -> dict[str, Tensor | None]:
        shares: dict[str, Tensor | None] = {}
        for group in self.groups[setup]:
            buffer = empty(sum(chunk.words for chunk in group))
            view, position = bytes_of(buffer), 0
            while position < view.nbytes:
                count = self.file.readinto(view[position:])
                if not count:
                    raise BundleError("the file ends too early", where=str(self.path))
                position += count
            shares.update(cut(group, buffer))
        return shares
