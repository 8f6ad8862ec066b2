"""The short form of `make soak`: sessions beside a hostile peer, and roles that are killed and restarted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_honest_client_is_answered_or_told() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--quick"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "back to back: {'answered': 21}" in run.stdout
