"""Writing files and folders whole or not at all, and where the user's cache is.

Everything is written inside a new folder beside its target, named at random and open to this user alone, and then renamed.
So a reader sees the old contents or the new ones, an interruption (Ctrl-C too) leaves the old ones, and nobody can plant a
symbolic link or a file of another mode where the new contents go.

    write(Path("counts.json"), text)
    with replacing(Path("weights.safetensors"), private=True) as part:      # for libraries that take a path
        save_file(tensors, part)
    with replacing_folder(Path("model.mpcc")) as new:
        write(new / "plan.json", text)
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE = 0o600
"""Mode of what holds weights, keys, inputs or correlated randomness; the rest gets what the umask leaves."""


def write(path: Path, content: str | bytes | memoryview, *, private: bool = False) -> None:
    """Write one file; text is UTF-8. OSError with the name of `path`, which then is as it was."""
    with replacing(path, private=private) as part:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE if private else 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def replacing(path: Path, *, private: bool = False, overwrite: bool = True) -> Iterator[Path]:
    """A place to write a file to (of the same name, so that libraries see the suffix), which then becomes `path`.

    What else is written beside it (ONNX's external weights) comes along. `overwrite=False`: FileExistsError where something
    stands at `path`, also when it got there meanwhile. The folder must exist.
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
    """A new folder that takes the place of the folder `place`, whose parents are made where they are missing."""
    place.absolute().parent.mkdir(parents=True, exist_ok=True)
    with _scratch(place) as folder:
        new, old = folder / "new", folder / "old"
        new.mkdir()
        yield new
        for made in new.iterdir():
            _sync(made)
        _sync(new)
        if place.exists():
            place.rename(old)
        try:
            new.rename(place)
        except BaseException:
            if old.exists():
                old.rename(place)
            raise
        _sync(place.absolute().parent)


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """A folder beside `path` that only this user can enter (mode 0700), removed at the end."""
    parent = path.absolute().parent
    if not parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(path.parent))
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
