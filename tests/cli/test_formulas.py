"""mpcc profile --symbolic and mpcc benchmark --show, as a user sees them."""

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
    assert "Growth with the number of tokens" in mpcc("profile", vit, "--symbolic", "--protocol", "semi2k").out


def test_the_scheduled_program_has_no_formulas(mpcc: Mpcc, vit: str) -> None:
    answer = mpcc("profile", vit, "--symbolic", "--protocol", "mpcc")
    assert answer.code == 2 and "has no formulas" in answer.err


def test_the_last_benchmark_is_shown(mpcc: Mpcc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    absent = mpcc("benchmark", "--show")
    assert absent.code == 2 and "Run `mpcc benchmark`" in absent.err
    Machine("2026-01-31", "a processor", "2.13", Compute("x", per_call=2e-6), {"select": 0.25}).write()
    shown = mpcc("benchmark", "--show")
    assert "no longer hold" in shown.err
    assert shown.code == 0 and "a processor" in shown.out and "2,000" in shown.out and "select, +25%" in shown.out
    assert json.loads(mpcc("benchmark", "--show", "--json").out)["seconds"]["per_call"] == 2e-6


def test_the_former_name_of_benchmark_says_so_once(mpcc: Mpcc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    Machine("2026-01-31", "a processor", "2.13", Compute("x", per_call=2e-6), {}).write()
    answer = mpcc("calibrate", "--show", "--json")
    assert answer.code == 0 and answer.err.count("mpcc benchmark") == 1
    assert answer.out == mpcc("benchmark", "--show", "--json").out
    assert "calibrate " not in mpcc("--help").out
