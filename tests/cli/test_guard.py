"""mpcc run and the guard: a warning on stderr and in --json, a refusal with --strict, an error for what cannot be an input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Mpcc = Callable[..., Any]


@pytest.fixture
def wild(tmp_path: Path) -> Path:
    """An input thirty times as large as those of calibration."""
    np.save(tmp_path / "wild.npy", np.full((1, 4), 30.5, np.float32))
    return tmp_path / "wild.npy"


@pytest.mark.slow
def test_an_unlike_input_is_a_warning(mpcc: Mpcc, bundle: Path, wild: Path) -> None:
    answer = mpcc("run", bundle, "--input", wild, "--json")
    assert answer.code == 0
    for said in ("warning: input input_1: ", "largest value 30.5, calibrated", "may be wrong"):
        assert said in answer.err
    assert any("largest value 30.5" in line for line in json.loads(answer.out)["warnings"])


@pytest.mark.slow
def test_a_like_input_is_none(mpcc: Mpcc, bundle: Path, calibration: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "like.npy", np.load(calibration)[:1])
    answer = mpcc("run", bundle, "--input", "like.npy", "--json", "--strict")
    assert answer.code == 0 and "warning" not in answer.err and json.loads(answer.out)["warnings"] == []


def test_strict_refuses_before_anything_is_sent(
    mpcc: Mpcc, bundle: Path, wild: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("a session was started")

    monkeypatch.setattr("mpcc.runtime.session.session.Session.__init__", started)
    monkeypatch.setattr("mpcc.runtime.session.standalone.run_party", started)
    for more in ((), ("--party", "client", "--peers", "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3", "--allow-weights")):
        answer = mpcc("run", bundle, "--input", wild, "--strict", *more)
        assert answer.code == 1 and "nothing was sent" in answer.err and "largest value 30.5" in answer.err


def test_without_statistics_strict_refuses_too(mpcc: Mpcc, own_bundle: Path, image: Path) -> None:
    from mpcc.approximate import Plan
    from mpcc.pipeline import load
    from mpcc.runtime.executable import Executable

    loaded = load(own_bundle)
    Executable(loaded.program, Plan(loaded.plan.choices), loaded.module).save(own_bundle)
    answer = mpcc("run", own_bundle, "--input", image, "--strict")
    assert answer.code == 1 and "no statistics" in answer.err
