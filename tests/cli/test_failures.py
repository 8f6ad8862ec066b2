"""What goes wrong while real commands run: a clear error on every side, soon, and nothing half-written."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mpcc.runtime.net.authority import make
from tests.cli.test_party import COMMAND, free_ports

ROLES = ("dealer", "server", "client")
SECONDS = 30.0
"""A hang is longer than this, on a busy machine too."""


class Three:
    """`mpcc run --party` three times, over TLS; the client asks so much that it is still busy when one is killed."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(bundle / "public", folder / "public")
        make(folder / "keys", 1)
        np.save(folder / "x.npy", np.zeros((4000, 4), np.float32))
        peers = ["--peers", free_ports()]
        arguments = {
            "dealer": [str(folder / "public"), "--party", "dealer"],
            "server": [str(bundle), "--party", "server"],
            "client": [str(folder / "public"), "--party", "client", "--input", "x.npy", "--output", "y.npy"],
        }
        self.processes = {
            name: subprocess.Popen(
                [*COMMAND, "run", *given, *peers, "--tls", f"keys/{name}"],
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name, given in arguments.items()
        }

    def inferences(self, count: int) -> None:
        """Wait until so many are done."""
        said = self.processes["server"].stderr
        assert said is not None
        lines = []
        while sum(line.startswith("inference") for line in lines) < count:
            lines.append(said.readline())
            assert lines[-1], lines

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.communicate()


@pytest.fixture
def three(bundle: Path, tmp_path: Path) -> Iterator[Three]:
    started = Three(bundle, tmp_path)
    yield started
    started.end()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["dealer", "server", "client"])
def test_a_killed_party_ends_the_others_who_name_it(three: Three, victim: str) -> None:
    three.inferences(5)
    three.processes[victim].send_signal(signal.SIGKILL)
    for name in set(ROLES) - {victim}:
        _, said = three.processes[name].communicate(timeout=SECONDS)
        last = said.strip().splitlines()[-1]
        assert three.processes[name].returncode == 2 and "Traceback" not in said
        assert victim in said and ("ended unexpectedly" in said or "is lost" in said), last
    assert not list(three.folder.glob("*y.npy*"))


@pytest.mark.slow
def test_a_full_disk_leaves_no_output(bundle: Path, tmp_path: Path) -> None:
    """The file size limit of a process stands for the full disk. The answers are 3,728 bytes."""
    np.save(tmp_path / "x.npy", np.zeros((300, 4), np.float32))
    run = subprocess.run(
        [*COMMAND, "run", str(bundle), "--input", "x.npy", "--output", "y.npy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)),
    )
    assert run.returncode == 2 and "File too large" in run.stderr and "Traceback" not in run.stderr
    assert not list(tmp_path.glob("*y.npy*"))


def test_a_full_disk_leaves_no_bundle(model: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [*COMMAND, "optimize", str(model), "-o", "m.mpcc"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )
    assert run.returncode == 2 and "File too large" in run.stderr and "Traceback" not in run.stderr, run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_last_of_repeated_answers_counts(bundle: Path, image: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [*COMMAND, "run", str(bundle), "--input", str(image), "--repeat", "3", "--output", "y.npy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0 and "each of 3 inferences" in run.stdout, run.stderr
    assert np.load(tmp_path / "y.npy").shape == (1, 3)
