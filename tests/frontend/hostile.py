"""What the tests of hostile files share: the texts, a watch over the interpreter, and .pt2 files with changed members."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mpcc import capture
from mpcc.errors import MpccError

RUN = "__import__('mpcc_sentinel')"
HOSTILE = [
    f'"){RUN}("',
    f'x", {RUN}) or getattr(self, "x',
    f"');{RUN};('",
    f"a\n    {RUN}\n    #",
    f"a = {RUN}",
    f"['', {RUN}, '{RUN}', 'x']",
    f"/a/{RUN}/b",
    f"a.{RUN}.b",
    f"{{{RUN}}}",
    f"%s{RUN}\\",
    "class",
    "lambda.weight",
    "self",
    "ﬁ.ｅval",
    "\u202egnp.exe",
    "../../../../tmp/mpcc_sentinel",
    "",
    "A" * 20000,
    "\x1b[2J\x00",
]
watched: list[str] | None = None


def _watch(event: str, args: tuple[Any, ...]) -> None:
    """What no reader of a model does; imports of the standard library and of torch's parts may happen lazily."""
    if watched is None:
        return
    if event in ("os.system", "subprocess.Popen", "pickle.find_class", "os.posix_spawn", "os.exec", "socket.connect"):
        watched.append(f"{event} {args[:2]}")
    if event in ("import", "os.mkdir") and "sentinel" in str(args[0]):
        watched.append(f"{event} {args[0]}")
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wxa+") and "/dev/" not in str(args[0]):
        watched.append(f"{event} {args[:2]}")
    if event == "compile" and args[0] is not None and RUN in str(args[0]) and "def _watch" not in str(args[0]):
        watched.append(f"{event} {str(args[0])[:200]}")


sys.addaudithook(_watch)


@contextmanager
def watching() -> Iterator[list[str]]:
    """What happens meanwhile that no reader does."""
    global watched
    watched = found = []
    try:
        yield found
    finally:
        watched = None


@contextmanager
def not_watching() -> Iterator[None]:
    """A test's own writing is not the reader's."""
    global watched
    kept, watched = watched, None
    try:
        yield
    finally:
        watched = kept


def right_or_refused(path: Path, x: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether it was read; what is read is right."""
    try:
        graph = capture(path)
    except MpccError as error:
        assert "\x1b" not in str(error)
        return False
    with torch.no_grad():
        found = graph(x)
    assert torch.allclose(found[0] if isinstance(found, tuple) else found, wanted, atol=1e-4)
    return True


def rewritten(path: Path, change: dict[str, bytes | None], name: str = "evil.pt2") -> Path:
    """The archive with members replaced, added or (None) left out."""
    target = path.with_name(name)
    with not_watching(), zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for info in old.infolist():
            inner = info.filename.partition("/")[2]
            content = change[inner] if inner in change else old.read(info)
            if content is not None:
                new.writestr(info.filename, content)
        for inner, content in change.items():
            if content is not None and f"{root}/{inner}" not in old.namelist():
                new.writestr(f"{root}/{inner}", content)
    return target


def member(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(item for item in archive.namelist() if item.endswith(name)))


