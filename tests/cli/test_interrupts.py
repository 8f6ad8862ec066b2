"""When a signal becomes a KeyboardInterrupt: not while modules are being imported, not twice for one impatience."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from mpcc.cli import interrupts
from mpcc.cli.interrupts import Interrupts


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time that the handler sees; alarms are counted and set off by hand."""
    now = [100.0, 0.0]
    monkeypatch.setattr(interrupts, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(interrupts.signal, "setitimer", lambda *_: now.__setitem__(1, now[1] + 1))
    yield now


def in_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: Any) -> None:
    """Call `look` with the frame of a module that is being imported."""
    (tmp_path / "half_imported.py").write_text("import builtins, sys\nbuiltins.look_at(sys._getframe())\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("builtins.look_at", look, raising=False)
    monkeypatch.delitem(sys.modules, "half_imported", raising=False)
    __import__("half_imported")


def test_it_waits_for_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    handler = Interrupts()

    def look(frame: FrameType) -> None:
        handler(signal.SIGINT, frame)
        handler(signal.SIGALRM, frame)
        assert clock[1] == 2

    in_an_import(tmp_path, monkeypatch, look)
    with pytest.raises(KeyboardInterrupt):
        handler(signal.SIGALRM, sys._getframe())


@pytest.mark.parametrize(("number", "later"), [(signal.SIGINT, 2.0), (signal.SIGALRM, 11.0)])
def test_it_waits_for_no_import_that_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float], number: signal.Signals, later: float
) -> None:
    """A module that trains while it is imported: the second Ctrl-C ends it, and one alone does after a while."""
    handler = Interrupts()

    def look(frame: FrameType) -> None:
        handler(signal.SIGINT, frame)
        clock[0] += later
        with pytest.raises(KeyboardInterrupt):
            handler(number, frame)

    in_an_import(tmp_path, monkeypatch, look)


def test_what_was_interrupted_ends_before_the_interpreter_does(tmp_path: Path) -> None:
    """What is cleaned up at exit is, and what was printed arrives; a global that aborts when it is taken down never is."""
    script = (
        "import atexit, sys\n"
        "from mpcc.cli import app, main\n"
        "@app.command()\n"
        "def stop() -> None:\n"
        "    import os\n"
        "    atexit.register(lambda: open('cleaned', 'w').close())\n"
        "    class Abort:\n"
        "        def __del__(self, abort=os.abort) -> None:\n"
        "            abort()\n"
        "    sys.kept = Abort()\n"
        "    print('printed')\n"
        "    raise KeyboardInterrupt\n"
        "sys.argv = ['mpcc', 'stop']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "printed\n", interrupts.MESSAGE)
    assert (tmp_path / "cleaned").exists()


def test_a_second_one_at_once_breaks_nothing_off(clock: list[float]) -> None:
    handler = Interrupts()
    for after, raised in ((0.0, True), (0.2, False), (0.9, True)):
        clock[0] += after
        try:
            handler(signal.SIGTERM, sys._getframe())
        except KeyboardInterrupt:
            assert raised
        else:
            assert not raised
