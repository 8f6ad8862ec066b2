"""A user's script with types: `mypy --strict` accepts it, and finds a wrong argument in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = '''
"""What a user writes."""

from pathlib import Path

import torch
from torch import nn

import mpcc
from mpcc.client import Client
from mpcc.testing.contracts import check_pass


def smaller(model: nn.Module, image: torch.Tensor) -> Path:
    made: mpcc.Optimized = mpcc.optimize(model, (image,), calibration="images.npy", budget="2s", network="wan")
    rounds: int = int(made.estimate.rounds)
    print(made.errors["max_error"], rounds, made.plan.choices)
    run: mpcc.Run = made.executable().run(image)
    top: int = int(run.output.argmax())
    graph = mpcc.transform(model, (image,))
    graph.load_state_dict(model.state_dict())
    assert top >= 0 and run.rounds <= rounds and check_pass is not None
    return made.save("x.mpcc")


def asked(image: torch.Tensor) -> str:
    with Client("https://a.example", "https://b.example") as client:
        return client.predict(image.numpy()).label
'''
WRONG = "\nmpcc.optimize(nn.Linear(2, 2), budgett='2s')\nmpcc.load(3)\n"


@pytest.mark.slow
def test_a_users_script(tmp_path: Path) -> None:
    """What mpcc exports is typed in full. The package stands in a folder of its own: mypy does not see editable installs."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "mpcc").symlink_to(ROOT / "mpcc")
    assert (ROOT / "mpcc" / "py.typed").is_file()
    found = {}
    for name, text in {"right": SCRIPT, "wrong": SCRIPT + WRONG}.items():
        (tmp_path / f"{name}.py").write_text(text)
        command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache")]
        here = {**os.environ, "MYPYPATH": str(tmp_path / "site")}
        done = subprocess.run([*command, f"{name}.py"], cwd=tmp_path, capture_output=True, text=True, env=here)
        found[name] = done.returncode, done.stdout
    assert found["right"][0] == 0, found["right"][1]
    assert found["wrong"][0] == 1 and "budgett" in found["wrong"][1] and "Argument 1 to" in found["wrong"][1]
