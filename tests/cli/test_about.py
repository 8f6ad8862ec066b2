"""mpcc doctor: an installation that works, and what it says of ones that do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mpcc.cli import about
from mpcc.runtime.net.authority import make
from tests.cli.conftest import Mpcc


def test_this_installation_works(mpcc: Mpcc, tmp_path: Path) -> None:
    keys = make(tmp_path / "keys", 1, None)
    answer = mpcc("doctor", "--tls", keys["server"], "--json")
    assert answer.code == 0, answer.err
    found = {one["what"]: one for one in json.loads(answer.out)["checks"]}
    assert all(one["state"] != about.BAD for one in found.values())
    assert found["ports"]["state"] == found["CrypTen"]["state"] == found["certificates"]["state"] == about.GOOD


def test_faults_say_what_to_do(mpcc: Mpcc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No CrypTen, certificates that are none, and a check that breaks: each a line, exit code 1."""
    monkeypatch.setattr(about, "CRYPTEN", "no_such_package")
    monkeypatch.setattr(about, "_ports", lambda: 1 / 0)
    (tmp_path / "keys").mkdir()
    answer = mpcc("doctor", "--tls", "keys")
    assert answer.code == 1 and "3 fault(s): CrypTen, <lambda>, certificates" in answer.err
    assert "pip install --no-deps crypten" in answer.out and "ZeroDivisionError" in answer.out and "mpcc keys" in answer.out
