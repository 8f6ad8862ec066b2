"""Wrong uses as people make them, each with its exit code and what is said: no traceback, and nothing half-written.

The folder has a space and letters of three scripts in its name. Ctrl-C comes at every stage; two results go to one place.
"""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcc.bundle import open_bundle
from mpcc.files import replacing_folder, write
from tests.cli.conftest import Mpcc

HOME = "my \u00dcbung \u30e2\u30c7\u30eb \u043f\u0430\u043f\u043a\u0430"
OPTIMIZE = ("optimize", "tiny.onnx")
RUN = ("run", "tiny.mpcc")

MINE = """
from torch import nn

def fails():
    return 1 / 0

def leaves():
    raise SystemExit(3)

def bare():
    return nn.Linear(4, 3)

def empty():
    return nn.Linear(4, 3), ()
"""
LOCKED = "/proc/1"
"""A folder in which not even root makes files."""

# name -> (arguments, exit code, words on stderr)
USES: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "no command": (("optimise", "tiny.onnx"), 2, ("No such command",)),
    "no model": (("optimize",), 2, ("MODEL",)),
    "no such option": ((*OPTIMIZE, "--fast"), 2, ("No such option",)),
    "a number for a word": ((*OPTIMIZE, "--tolerance", "little"), 2, ("--tolerance", "number")),
    "a tolerance below zero": ((*OPTIMIZE, "--tolerance", "-1"), 2, ("--tolerance",)),
    "no such model": (("optimize", "tiny.onn"), 2, ("tiny.onn", "no such file")),
    "a folder for a model": (("optimize", "photos"), 2, ("photos", "not a bundle")),
    "a text for a model": (("optimize", "notes.onnx"), 2, ("notes.onnx", "not an ONNX file")),
    "no such function": (("optimize", "mine.py:mke"), 2, ("mke",)),
    "code that fails": (("optimize", "mine.py:fails"), 2, ("ZeroDivisionError",)),
    "code that ends the process": (("optimize", "mine.py:leaves"), 2, ("mine.py:leaves", "SystemExit")),
    "code without sizes": (("optimize", "mine.py:bare"), 2, ("--input-shape input=",)),
    "code without inputs": (("optimize", "mine.py:empty"), 2, ("missing a required argument",)),
    "an empty name for a model": (("optimize", ""), 2, ("no model is named",)),
    "a function of no module": (("optimize", ":make"), 2, ("no such file",)),
    "a folder for a plan": ((*OPTIMIZE, "--plan", "tiny.mpcc"), 2, ("tiny.mpcc/plan.json",)),
    "an endless budget": ((*OPTIMIZE, "--budget", "1e400s"), 2, ("bounds nothing",)),
    "an answer as a text": ((*RUN, "--input", "x.npy", "--output", "y.txt"), 2, ("y.txt", "y.npy")),
    "noise above the outputs": (("optimize", "model.onnx", "--noise", "2"), 2, ("--noise", "invalid noise 2", "drown")),
    "pictures' answers as a text": (("ask", "http://a", "http://b", "notes.onnx", "--output", "y.csv"), 2, ("y.csv", "y.npy")),
    "a budget without a unit": ((*OPTIMIZE, "--budget", "2"), 2, ("unit is missing",)),
    "a budget that cannot be met": ((*OPTIMIZE, "--calibration", "inputs.npy", "--budget", "1us"), 1, ("cannot be met",)),
    "an unknown level": ((*OPTIMIZE, "--level", "wild"), 2, ("wild", "bounded")),
    "an unknown protocol": ((*OPTIMIZE, "--protocol", "chetah"), 2, ("chetah", "cheetah")),
    "an unknown network": ((*OPTIMIZE, "--network", "5G"), 2, ("5G", "lan, wan")),
    "two ways to choose": ((*OPTIMIZE, "--plan", "notes.onnx", "--recipe", "mpcformer"), 2, ("--recipe", "--plan")),
    "a plan that is none": ((*OPTIMIZE, "--plan", "notes.onnx"), 2, ("notes.onnx", "JSON")),
    "no calibration there": ((*OPTIMIZE, "--calibration", "input.npy"), 2, ("input.npy", "no such file")),
    "calibration of another shape": ((*OPTIMIZE, "--calibration", "wide.npy"), 2, ("(16, 5)", "4]")),
    "calibration of words": ((*OPTIMIZE, "--calibration", "words.npy"), 2, ("words.npy", "not numbers")),
    "calibration with NaN": ((*OPTIMIZE, "--calibration", "nan.npy"), 2, ("NaN",)),
    "no pictures in a folder": ((*OPTIMIZE, "--calibration", "photos"), 2, ("image folder",)),
    "an output that is a file": ((*OPTIMIZE, "-o", "notes.onnx"), 2, ("notes.onnx", "-o")),
    "an output with other things": ((*OPTIMIZE, "-o", "photos"), 2, ("photos", "not touched")),
    "an output below a file": ((*OPTIMIZE, "-o", "notes.onnx/x.mpcc"), 2, ("notes.onnx",)),
    "a model for a bundle": (("run", "tiny.onnx", "--input", "x.npy"), 2, ("not a bundle",)),
    "an input of another shape": ((*RUN, "--input", "wide.npy"), 2, ("(16, 5)", "(1, 4)")),
    "two inputs for one": ((*RUN, "--input", "x.npy", "--input", "x.npy"), 2, ("1 input", "2 were given")),
    "an archive of several": ((*RUN, "--input", "two.npz"), 2, ("more than one array",)),
    "no input": (RUN, 2, ("--input",)),
    "an answer into a folder": ((*RUN, "--input", "x.npy", "--output", "photos"), 2, ("photos", "folder")),
    "an answer into no folder": ((*RUN, "--input", "x.npy", "--output", "a/y.npy"), 2, ("No such folder",)),
    "a party without addresses": ((*RUN, "--party", "server"), 2, ("--peers",)),
    "a party of no such name": ((*RUN, "--party", "alice"), 2, ("alice", "client")),
    "a server with the client's input": ((*RUN, "--party", "server", "--input", "x.npy"), 2, ("belongs to the client",)),
    "weights at the client": ((*RUN, "--party", "client", "--input", "x.npy"), 2, ("weights", "public")),
    "rows of no such kind": (("profile", "tiny.onnx", "--by", "colour"), 2, ("--by",)),
    "a check without counts": (("count", "tiny.onnx", "--check", "none.json"), 2, ("none.json", "--write")),
    "a check and a write": (("count", "tiny.onnx", "--check", "a", "--write", "b"), 2, ("--check", "--write")),
    "keys over something": (("keys", "photos"), 2, ("photos", "never overwritten")),
    "counts into a read-only folder": (("count", "tiny.onnx", "--write", f"{LOCKED}/c.json"), 2, (f"{LOCKED}/c.json",)),
    "an answer into a read-only folder": ((*RUN, "--input", "x.npy", "--output", f"{LOCKED}/y.npy"), 2, (f"{LOCKED}/y.npy",)),
    "a picture into a read-only folder": (("profile", "tiny.onnx", "--picture", f"{LOCKED}/x.svg"), 2, (LOCKED,)),
    "a tuned bundle into a read-only folder": (("tune", "tiny.onnx", "--data", "digits", "-o", f"{LOCKED}/x.mpcc"), 2, (LOCKED,)),
    "keys into a read-only folder": (("keys", f"{LOCKED}/keys"), 2, (LOCKED,)),
    "a revocation without authority": (("keys", "--revoke", "alice"), 2, ("--authority",)),
}


@pytest.fixture
def home(mpcc: Mpcc, model: Path, bundle: Path, calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of things to use wrongly, and the working folder."""
    folder = tmp_path / HOME
    folder.mkdir()
    shutil.copy(model, folder / "tiny.onnx")
    shutil.copy(calibration, folder / "inputs.npy")
    shutil.copytree(bundle, folder / "tiny.mpcc")
    (folder / "notes.onnx").write_text("these are my notes\n")
    (folder / "mine.py").write_text(MINE)
    (folder / "photos").mkdir()
    (folder / "photos" / "precious.txt").write_text("x")
    arrays: dict[str, Any] = {
        "x": np.zeros((1, 4), "f4"), "wide": np.zeros((16, 5), "f4"), "words": np.array(["one", "two"]),
        "nan": np.full((16, 4), np.nan, "f4"),
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    np.savez(folder / "two.npz", a=arrays["x"], b=arrays["x"])
    monkeypatch.chdir(folder)
    return folder


def contents(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.parametrize("name", USES)
def test_a_wrong_use(mpcc: Mpcc, home: Path, name: str) -> None:
    arguments, code, words = USES[name]
    before = contents(home)
    answer = mpcc(*arguments)
    assert answer.code == code and answer.out == "", answer
    assert "Traceback" not in answer.err and all(word in answer.err for word in words), answer.err
    assert contents(home) == before


def test_ctrl_c_in_a_training(mpcc: Mpcc, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an epoch: the checkpoint is there to go on from, and nothing else."""

    def stop(row: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mpcc.cli.tune._report", stop)
    np.savez("data.npz", images=np.random.default_rng(0).normal(size=(64, 4)).astype("f4"), labels=np.arange(64) % 3)
    Path("net.py").write_text(
        "import torch\nfrom torch import nn\ndef make():\n"
        "    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)).eval(), (torch.zeros(1, 4),)\n"
    )
    before = contents(home)
    answer = mpcc("tune", "net.py:make", "--data", "data.npz", "--batch", "16", "--budget", "60min", "--machine", "reference")
    assert (answer.code, answer.out) == (130, ""), answer
    assert contents(home) - before <= {"make.mpcc.checkpoint"}


STAGES = {
    **{stage: ("optimize", "tiny.onnx", "--calibration", "inputs.npy", "--machine", "reference")
       for stage in ("capture", "rewrite", "calibrate", "emulate", "write")},
    **{stage: ("optimize", "tiny.onnx", "--calibration", "inputs.npy", "--machine", "reference", "--budget", "60s")
       for stage in ("candidates", "price")},
    "synthesise": ("optimize", "tiny.onnx", "--machine", "reference"),
    "compile": ("count", "tiny.onnx", "--write", "counts.json"),
    "estimate": ("profile", "tiny.onnx", "--machine", "reference", "--picture", "cost.svg"),
    **{stage: (*RUN, "--input", "x.npy", "--output", "y.npy") for stage in ("start", "set-up", "inference")},
    "verify": ("verify", "tiny.mpcc", "--calibration", "inputs.npy", "--count", "1"),
}  # fmt: skip
"""Stage -> a command that comes to it. In a search, Ctrl-C ends the search and keeps the best plan (tests/search)."""


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_at_a_stage(mpcc: Mpcc, home: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Exit code 130, one line, and the bundle that was there before; the parties of a run have ended."""

    @contextmanager
    def stopping() -> Iterator[Any]:
        def tell(now: str, done: int, total: int) -> None:
            if now == stage:
                raise KeyboardInterrupt

        yield tell

    monkeypatch.setattr(f"mpcc.cli.{STAGES[stage][0]}.progress", stopping)
    before, manifest = contents(home), (home / "tiny.mpcc" / "manifest.json").read_bytes()
    answer = mpcc(*STAGES[stage])
    assert multiprocessing.active_children() == []
    assert (answer.code, answer.out) == (130, "") and answer.err.strip() == "interrupted; no partial output was written"
    assert contents(home) == before and (home / "tiny.mpcc" / "manifest.json").read_bytes() == manifest


def test_two_results_for_one_place(bundle: Path, home: Path) -> None:
    """Both succeed, one of them is there in the end, whole, and nothing else is left."""
    before = contents(home)

    def put(number: int) -> None:
        for _ in range(20):
            with replacing_folder(home / "tiny.mpcc") as new:
                for file in bundle.rglob("*"):
                    if file.is_file():
                        (new / file.relative_to(bundle)).parent.mkdir(exist_ok=True)
                        write(new / file.relative_to(bundle), file.read_bytes())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(4)))
    open_bundle(home / "tiny.mpcc")
    assert contents(home) == before


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(*OPTIMIZE, "-o", "same.mpcc"), (*RUN, "--input", "x.npy", "--output", "y.npy")])
def test_two_commands_at_once(home: Path, arguments: tuple[str, ...]) -> None:
    """Both succeed, and what they write is whole."""
    command = [sys.executable, "-m", "mpcc", *arguments]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=300) for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    if "same.mpcc" in arguments:
        open_bundle(Path("same.mpcc"))
    else:
        assert np.load("y.npy").shape == (1, 3)
    assert not [path for path in home.iterdir() if ".part" in path.name]
