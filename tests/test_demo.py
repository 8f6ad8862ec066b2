"""`make demo`: the whole path on real images; it fails when a count is not as predicted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from examples.digits_vit import demo

DEMO = Path(__file__).parents[1] / "examples" / "digits_vit" / "demo.py"


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    """Private and plain top-1 agree, all counts are as predicted, the bundle is written."""
    command = [sys.executable, "-W", "ignore", str(DEMO), "--images", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "the same as plain on 3" in done.stdout
    assert re.search(r"All \d+ measured counts are as predicted", done.stdout)
    assert (tmp_path / "out" / "digits_vit.mpcc" / "manifest.json").exists()


def test_a_count_that_is_not_as_predicted_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With everything that takes long replaced."""
    logits = torch.eye(10)[:1]
    made = SimpleNamespace(save=lambda _: None, model=lambda _: logits, baseline=SimpleNamespace(rounds=9, bytes=90))
    stock = SimpleNamespace(run=lambda _: SimpleNamespace(rounds=9, bytes=91))
    monkeypatch.setattr(demo, "mpcc", SimpleNamespace(optimize=lambda *_, **__: made, compile=lambda *_, **__: stock))
    monkeypatch.setattr(demo, "classify", lambda *_: demo.Answers(logits, [1.0], [demo.Counted("online rounds", 5, 5)]))
    monkeypatch.setattr(demo, "show_cost", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["demo.py", "--images", "1", "--output", str(tmp_path)])
    assert demo.main() == 1
    assert "stock bytes: predicted 90, measured 91" in capsys.readouterr().err
