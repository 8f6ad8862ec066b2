"""What is wrong at first sight is said at once: without torch, before anything is computed, and whatever would be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpcc.files import check_writable

Mpcc = Callable[..., Any]
USES = [
    ["optimize", "absent.onnx"],
    ["optimize", "absent.py:make"],
    ["optimize", "tiny.onnx", "--budget", "2parsecs"],
    ["optimize", "tiny.onnx", "--network", "carrier-pigeon"],
    ["optimize", "tiny.onnx", "--calibration", "photos"],
    ["optimize", "tiny.onnx", "--plan", "absent.json"],
    ["optimize", "tiny.onnx", "--max-drop", "some"],
    ["optimize", "tiny.onnx", "-o", "tiny.onnx/x.mpcc"],
    ["run", "absent.mpcc", "--input", "x.npy"],
    ["run", "tiny.onnx", "--input", "x.npy"],
    ["verify", "."],
    ["count", "absent.onnx"],
    ["count", "tiny.onnx", "--write", "absent/counts.json"],
    ["profile", "tiny.onnx", "--picture", "absent/x.png"],
    ["tune", "absent.onnx", "--data", "digits"],
]
SCRIPT = """
import json, sys
from typer.testing import CliRunner
from mpcc.cli import app
made = ((CliRunner().invoke(app, use), "torch" in sys.modules) for use in json.loads(sys.argv[1]))
print(json.dumps([[one.exit_code, one.stderr, heavy] for one, heavy in made]))
"""


def test_errors_come_before_torch(tmp_path: Path) -> None:
    """All of these in one new process, which has imported no torch at the end."""
    (tmp_path / "tiny.onnx").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(USES)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    for use, (code, said, heavy) in zip(USES, json.loads(done.stdout), strict=True):
        assert (code, heavy) == (2, False) and said.startswith("mpcc: ") and "Traceback" not in said, (use, said)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/version").exists(), reason="no folder that root cannot write to")
def test_a_place_that_cannot_be_written_is_found_first(mpcc: Mpcc, model: Path, tmp_path: Path) -> None:
    """The message names what the user named, not a scratch file."""
    if os.geteuid() == 0:
        place = Path("/proc/1/out.mpcc")
    else:
        (tmp_path / "locked").mkdir(mode=0o500)
        place = tmp_path / "locked" / "out.mpcc"
    answer = mpcc("optimize", model, "-o", place)
    assert answer.code == 2 and str(place) in answer.err and ".part" not in answer.err


def test_check_writable_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / ("\u00e9" * 120))
    check_writable(tmp_path / "a" / "b" / "c", parents=True)
    with pytest.raises(FileNotFoundError, match="No such folder"):
        check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_libraries_are_heard_with_debug_only(model: Path, tmp_path: Path) -> None:
    """A deprecation and a log of the user's own code; with --debug behind the command, both, and the traceback of an error."""
    said = "warnings.warn('old'); logging.getLogger('x').warning('loud')"
    text = f"import logging, warnings\ndef make():\n    {said}\n    1 / 0\n"
    (tmp_path / "mine.py").write_text(text)
    command = [sys.executable, "-m", "mpcc", "count", "mine:make"]
    plain, debug = (
        subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True) for more in ([], ["--debug"])
    )
    assert plain.returncode == debug.returncode == 2
    assert plain.stderr.startswith("mpcc: mine:make: your code raised ZeroDivisionError")
    assert all(word in debug.stderr for word in ("old", "loud", "Traceback", "ZeroDivisionError"))


def test_the_users_code_is_found_in_the_working_folder(mpcc: Mpcc, model: Path, tmp_path: Path) -> None:
    (tmp_path / "my_inputs.py").write_text("import torch\ndef sixteen():\n    return torch.randn(16, 4)\n")
    answer = mpcc("optimize", model, "--calibration", "my_inputs:sixteen")
    assert answer.code == 0, answer.err
