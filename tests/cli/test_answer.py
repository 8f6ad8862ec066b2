"""The screen after `mpcc optimize`: 24 lines of 80 columns for any model, rows per site when asked, commands to paste."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mpcc.cli import answer
from mpcc.show.units import brief, brief_seconds
from tests.cli.conftest import Mpcc

MODEL = """
import torch
from torch import nn


class Many(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(4, 8), nn.Linear(4, 8), nn.LayerNorm(8)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(6))
        self.acts = nn.ModuleList([nn.GELU(), nn.SiLU(), nn.ReLU(), nn.Sigmoid(), nn.Tanh(), nn.Hardswish()])

    def forward(self, image, mask):
        x = self.norm(self.a(image) + self.b(mask))
        for linear, act in zip(self.blocks, self.acts):
            x = x + act(linear(x))
        return x.softmax(-1) @ x.transpose(-1, -2)


def make():
    torch.manual_seed(0)
    return Many().eval(), (torch.zeros(1, 3, 4), torch.zeros(1, 3, 4))
"""


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal of 80 columns shows of the answer."""
    shown = io.StringIO()
    monkeypatch.setattr(answer, "console", lambda: Console(width=80, file=shown))
    return shown


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A model of two inputs and nine kinds of operators, in a folder whose name a shell would take apart; inputs beside it."""
    folder = tmp_path / "my models \u00fc"
    folder.mkdir()
    (folder / "mine.py").write_text(MODEL)
    draw = np.random.default_rng(0)
    shape = (64, 1, 3, 4)
    np.savez(folder / "in puts.npz", image=draw.normal(size=shape).astype("f4"), mask=draw.normal(size=shape).astype("f4"))
    return folder


@pytest.mark.slow
def test_one_screen_and_commands_to_paste(mpcc: Mpcc, many: Path, terminal: io.StringIO) -> None:
    home = many.name
    given = ("--calibration", f"{home}/in puts.npz", "--budget", "9s", "-o", f"{home}/x.mpcc")
    made = mpcc("optimize", f"{home}/mine.py:make", *given)
    assert made.code == 0, made.err
    lines = terminal.getvalue().rstrip("\n").split("\n")
    said = "\n".join(lines)
    assert len(lines) < answer.ROWS and all(len(line) <= answer.COLUMNS for line in lines if not line.startswith("  mpcc"))
    assert "others" in said and "Budget of 9 seconds: met" in said and "semi-honest" in said and "report.html" in said
    commands = [shlex.split(line) for line in lines if line.startswith("  mpcc")]
    assert [command[1] for command in commands] == ["run", "verify"]
    for command in commands:
        ran = mpcc(*command[1:])
        assert ran.code == 0, ran.err


def test_without_inputs_the_commands_work_too(mpcc: Mpcc, model: Path, terminal: io.StringIO) -> None:
    assert mpcc("optimize", model).code == 0
    said = terminal.getvalue()
    assert "mpcc run tiny.mpcc --example" in said and "mpcc verify tiny.mpcc\n" in said
    assert "Accuracy unknown" in said and "relu" in said and "11 -> 6" in said


def test_sites_and_one_site(mpcc: Mpcc, model: Path, calibration: Path, terminal: io.StringIO) -> None:
    """--sites has a row for each; --explain says what else could stand there, and knows what looks alike."""
    given = ("optimize", model, "--calibration", calibration)
    assert "act.relu" not in mpcc(*given).out
    answered = mpcc(*given, "-v", "--explain", "act.relu", "--budget", "9rounds")
    assert answered.code == 0 and "act.relu" in terminal.getvalue()
    assert "\u2713 relu" in answered.out and "valid range" in answered.out.lower() or "act.relu: relu" in answered.out
    assert "Nothing was searched" in mpcc(*given, "--explain", "act.relu").out
    unknown = mpcc(*given, "--explain", "act.relo")
    assert unknown.code == 2 and "act.relu" in unknown.err


@pytest.mark.slow
def test_an_example_runs(mpcc: Mpcc, bundle: Path) -> None:
    ran = mpcc("run", bundle, "--example")
    assert ran.code == 0 and "output" in ran.out and "warning" not in ran.err
    assert mpcc("run", bundle, "--example", "--input", "x.npy").code == 2


def test_three_digits() -> None:
    assert [brief(value) for value in (0, 999, 8300, 999_900, 23_466_880, 4.4e9)] == [
        "0 B", "999 B", "8.30 kB", "1.00 MB", "23.5 MB", "4.40 GB",
    ]  # fmt: skip
    assert [brief_seconds(value) for value in (0, 0.0207, 0.9999, 3.44, 68.4, 1234)] == [
        "0 s", "20.7 ms", "1.00 s", "3.44 s", "68.4 s", "1,234 s",
    ]  # fmt: skip
