"""What the tests of hostile model files share: texts, and an audit hook on what the interpreter does while a file is read."""

from __future__ import annotations

import sys
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


class Watch:
    """Notes what no reader of a model does; imports of the standard library and of torch's parts may happen lazily."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.on = False
        sys.addaudithook(self._note)

    def _note(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in ("os.system", "subprocess.Popen", "pickle.find_class", "os.posix_spawn", "os.exec", "socket.connect"):
            self.found.append(f"{event} {args[:2]}")
        if event in ("import", "os.mkdir") and "sentinel" in str(args[0]):
            self.found.append(f"{event} {args[0]}")
        if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wxa+") and "/dev/" not in str(args[0]):
            self.found.append(f"{event} {args[:2]}")
        if event == "compile" and args[0] is not None and RUN in str(args[0]) and "class Watch" not in str(args[0]):
            self.found.append(f"{event} {str(args[0])[:200]}")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The test's own writing is not the reader's."""
        before, self.on = self.on, False
        try:
            yield
        finally:
            self.on = before


WATCH = Watch()


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
