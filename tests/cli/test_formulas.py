"""mpcc profile --symbolic and mpcc calibrate --show, as a user sees them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpcc.cost import Compute
from mpcc.cost.machine import Machine

Mpcc = Callable[..., Any]

@pytest.fixture
def vit(tmp_path: Path) -> str:
    """A small transformer as `file.py:function`."""
    (tmp_path / "small.py").write_text(
        "from tests.models.vit_lite import VisionTransformer, smooth_image\n\n\n"
        "def small():\n"
        "    model = VisionTransformer(image=16, width=16, depth=2, heads=2, hidden=32)\n"
        "    return model.eval(), (smooth_image(16),)\n"
    )
    return f"{tmp_path / 'small.py'}:small"


def test_formulas_and_their_growth(mpcc: Mpcc, vit: str) -> None:
    answer = mpcc("profile", vit, "--symbolic", "--protocol", "semi2k", "--json")
    assert answer.code == 0, answer.err
    (found,) = json.loads(answer.out)
    assert found["protocol"] == "semi2k" and found["sizes"]["h"] == 2
    assert "n**2" in found["bytes"] and "L" in found["rounds"]
    assert [row["tokens"] for row in found["growth"]] == [found["sizes"]["n"] * times for times in (1, 2, 4, 8)]
    assert "As tokens grow" in mpcc("profile", vit, "--symbolic", "--protocol", "semi2k").out


def test_the_scheduled_program_has_no_formulas(mpcc: Mpcc, vit: str) -> None:
    answer = mpcc("profile", vit, "--symbolic", "--protocol", "mpcc")
    assert answer.code == 2 and "no formulas for mpcc" in answer.err


def test_what_was_calibrated_is_shown(mpcc: Mpcc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    absent = mpcc("calibrate", "--show")
    assert absent.code == 2 and "run `mpcc calibrate`" in absent.err
    Machine("2026-01-31", "a processor", "2.13", Compute("x", per_call=2e-6), {"select": 0.25}).write()
    shown = mpcc("calibrate", "--show")
    assert shown.code == 0 and "a processor" in shown.out and "2,000" in shown.out and "select, +25%" in shown.out
    assert json.loads(mpcc("calibrate", "--show", "--json").out)["seconds"]["per_call"] == 2e-6
