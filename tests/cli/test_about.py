"""mpcc doctor: an installation that works, and what it says of ones that do not."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mpcc.cli import about, engine
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
    assert "mpcc install-engine" in answer.out and "ZeroDivisionError" in answer.out and "mpcc keys" in answer.out


def test_the_engine_is_installed_past_its_requirement(mpcc: Mpcc, monkeypatch: pytest.MonkeyPatch) -> None:
    """By pip, or by uv where there is no pip; what an index says where it fails."""
    run: list[list[str]] = []

    def install(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        run.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", install)
    dry = mpcc("install-engine", "--dry-run")
    assert dry.code == 0 and run == [] and "--no-deps crypten==0.4.1" in dry.err
    answer = mpcc("install-engine")
    assert answer.code == 0 and "can be imported" in answer.err, answer.err
    assert [command[-1] for command in run] == ["pyyaml>=6", engine.CRYPTEN] and "--no-deps" in run[1]
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: No matching distribution found for crypten==0.4.1\n")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: failed)
    answer = mpcc("install-engine")
    assert answer.code == 2 and "No matching distribution" in answer.err and "by hand" in answer.err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/uv")
    assert engine.installer()[:3] == ["/usr/bin/uv", "pip", "install"] and sys.executable in engine.installer()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert mpcc("install-engine").code == 2
