"""Writes files and folders atomically, and finds the user's cache.

Everything is written inside a new folder beside its target, with a random name and mode 0700, and then renamed. A reader
therefore sees either the old contents or the new ones, an interruption (Ctrl-C included) leaves the old ones, and nobody can
plant a symbolic link, or a file of another mode, where the new contents are written.

    write(Path("counts.json"), text)
    with replacing(Path("weights.safetensors"), private=True) as part:      # for libraries that take a path
        save_file(tensors, part)
    with replacing_folder(Path("model.mpcc")) as new:
        write(new / "plan.json", text)
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SWAPS = 100
"""Tries to put a folder in place while others put theirs: each loses against another's rename, which takes microseconds."""
PRIVATE = 0o600
"""Mode of files that hold weights, keys, outputs or correlated randomness. Other files get what the umask leaves."""


def write(path: Path, content: str | bytes | memoryview, *, private: bool = False) -> None:
    """Write a file; text is UTF-8. OSError that names `path`, which is then unchanged."""
    with replacing(path, private=private) as part:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE if private else 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


def check_writable(path: Path, *, parents: bool = False) -> None:
    """OSError that names `path` if nothing can be written there; with `parents`, folders on the way may be missing.

    Before long work, whose result would otherwise have nowhere to go.
    """
    home = path.absolute().parent
    while parents and not home.exists() and home != home.parent:
        home = home.parent
    if not home.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(home))
    try:
        os.rmdir(tempfile.mkdtemp(prefix=_prefix(path), suffix=".part", dir=home))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def replacing(path: Path, *, private: bool = False, overwrite: bool = True) -> Iterator[Path]:
    """A path to write a file to, which then replaces `path`. It has the same name, because libraries look at the suffix.

    What else is written beside it (ONNX's external weights) comes along. With `overwrite=False`, FileExistsError if
    something is at `path` in the end. FileNotFoundError if the folder does not exist.
    """
    with _scratch(path) as folder:
        yield folder / path.name
        for made in sorted(folder.iterdir(), key=lambda one: one.name == path.name):  # `path` last: it refers to the others
            _settle(made, private)
            target = path.with_name(made.name)
            if overwrite:
                made.replace(target)
            else:
                os.link(made, target)  # a rename would overwrite
        _sync(path.parent)


@contextmanager
def replacing_folder(place: Path) -> Iterator[Path]:
    """A new folder that replaces the folder `place`. Missing parents are created."""
    place.absolute().parent.mkdir(parents=True, exist_ok=True)
    with _scratch(place) as folder:
        new, old = folder / "new", folder / "old"
        new.mkdir()
        yield new
        for made in new.iterdir():
            _sync(made)
        _sync(new)
        _swap(new, place, old)
        _sync(place.absolute().parent)


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """A folder beside `path` that only this user can enter (mode 0700), removed at the end."""
    parent = path.absolute().parent
    if not parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(path.parent))
    folder = Path(tempfile.mkdtemp(prefix=_prefix(path), suffix=".part", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _swap(new: Path, place: Path, old: Path) -> None:
    """Rename `new` to `place`; what is there goes into `old`. Where two processes do so at once, the later one wins."""
    old.mkdir()
    for attempt in range(SWAPS):
        before = old / str(attempt)
        with contextlib.suppress(FileNotFoundError):
            place.rename(before)
        try:
            new.rename(place)
            return
        except BaseException as error:
            between = isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST)
            if not between or attempt == SWAPS - 1:
                if before.exists() and not place.exists():
                    before.rename(place)
                raise


def _prefix(path: Path) -> str:
    """What a folder for `path` is called by, short enough that its own name cannot be too long where that of `path` is not."""
    return f".{path.name[:40]}."


def _settle(made: Path, private: bool) -> None:
    """Give a file its mode, whatever a library chose, and put it on the disk."""
    descriptor = os.open(made, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if private:
            os.fchmod(descriptor, PRIVATE)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    """Put a file, or the entries of a folder, on the disk: a rename may otherwise be lost in a crash."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cache_folder() -> Path:
    """`mpcc` in the user's cache: $XDG_CACHE_HOME, or .cache at home. Nothing there is needed; all of it may be deleted."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "mpcc"
