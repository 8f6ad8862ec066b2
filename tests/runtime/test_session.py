"""Sessions of three real processes: the answer, the measured cost, who holds what, and what happens when one dies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mpcc.errors import MpccError, PartyError, ShapeError
from mpcc.ir.info import scale_of, weight_of
from mpcc.program.program import Program
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.engine.evaluate import encode_tensor, encode_weights
from mpcc.runtime.session.session import Session
from tests.models.programs import SHAPE, program, weights

ROLES = ["server", "client", "dealer"]


@pytest.fixture(autouse=True)
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing may be left in the folder of temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert list(tmp_path.glob("mpcc-*")) == []


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process has ended, or does within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_measured_cost_is_the_stated_one_and_weights_stay_with_the_server() -> None:
    made = program("mixed")
    emulate = Emulator(made)
    seen: list[tuple[str, int, int]] = []
    with Session(made, "v1", progress=lambda *stage: seen.append(stage)) as session:
        assert list(session.processes) == ROLES
        assert (session.setup.rounds, session.setup.sent_bytes) == (made.cost.setup_rounds, made.cost.setup_bytes)
        assert session.setup.dealer_bytes == made.cost.setup_dealer_bytes
        for _ in range(2):
            x = torch.randn(SHAPE)
            outcome = session.run(x)
            assert (outcome.rounds, outcome.bytes) == (made.cost.rounds, made.cost.bytes)
            assert outcome.offline_bytes == made.cost.dealer_bytes + made.cost.ahead_bytes
            assert (outcome.outputs[0] - emulate(x)[0]).abs().max() < 0.01
        with pytest.raises(ShapeError):
            session.run(torch.zeros(3))
        assert session.run(x).outputs  # a wrong shape does not end the session
        _search_memory(made, session, x)
    assert {stage for stage, _, _ in seen} >= {"start", "set-up"}
    assert all(process.returncode == 0 for process in session.processes.values())


def _search_memory(made: Program, session: Session, x: torch.Tensor) -> None:
    """The weights, as floats and as ring integers, are in the server's memory only; the input is not at the others."""
    node = next(n for n in made.online.graph.nodes if weight_of(n) is not None and n.meta["val"].numel() == 128)
    encoded = encode_weights(made)[node.name].mT.contiguous()  # a transpose lies in memory as such
    patterns = {"floats": weights()["w"].numpy().tobytes()[:256], "integers": encoded.numpy().tobytes()[:256]}
    for role, process in session.processes.items():
        memory = _memory(process.pid)
        for what, pattern in patterns.items():
            assert any(pattern in part for part in memory) == (role == "server"), f"{what} at the {role}"
        for value in (x, encode_tensor(x, scale_of(made.inputs()[0]))):
            pattern = value.numpy().tobytes()[:128]
            assert role == "client" or not any(pattern in part for part in memory), f"the input at the {role}"


def _memory(pid: int) -> list[bytes]:
    parts = []
    try:
        with open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
                if found is None:
                    continue
                start, stop = int(found[1], 16), int(found[2], 16)
                try:
                    memory.seek(start)
                    parts.append(memory.read(stop - start))
                except OSError:
                    continue
    except PermissionError:
        pytest.skip("this system does not let a process read its children's memory")
    return parts


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "insecure"), [("server", False), ("dealer", False), ("client", True)])
def test_a_killed_process_ends_all_and_is_named(victim: str, insecure: bool) -> None:
    made = program("relu")
    with Session(made, "v1", insecure_dealer=insecure) as session:
        session.run(torch.zeros(SHAPE))
        os.kill(session.processes[victim].pid, signal.SIGKILL)
        session.processes[victim].wait(5)
        time.sleep(0.1)
        start = time.monotonic()
        with pytest.raises(PartyError, match=f"{victim}.*killed by signal 9"):
            session.run(torch.zeros(SHAPE))
        assert time.monotonic() - start < 5
        assert all(process.returncode is not None for process in session.processes.values())
        with pytest.raises(PartyError, match="not running"):
            session.run(torch.zeros(SHAPE))


@pytest.mark.slow
def test_a_stopped_peer_is_given_up() -> None:
    with Session(program("relu"), "v1", insecure_dealer=True, timeout=1.0) as session:
        session.run(torch.zeros(SHAPE))
        os.kill(session.processes["server"].pid, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(PartyError, match="silent for 1 s"):
            for _ in range(2):
                session.run(torch.zeros(SHAPE))
        assert time.monotonic() - start < 8


@pytest.mark.slow
def test_an_interrupt_ends_all() -> None:
    with pytest.raises(KeyboardInterrupt):
        with Session(program("relu"), "v1", insecure_dealer=True) as session:
            raise KeyboardInterrupt
    assert all(gone(process.pid, 1) for process in session.processes.values())


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_no_orphans_when_the_session_is_killed(end: signal.Signals) -> None:
    code = textwrap.dedent(
        """
        import signal, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started the tests in the background
        import torch
        from tests.models.programs import program
        from mpcc.runtime.session.session import Session
        with Session(program("relu"), "v1") as session:
            print(*(p.pid for p in session.processes.values()), flush=True)
            time.sleep(60)
        """
    )
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    script = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], text=True, **quiet)  # type: ignore[call-overload]
    assert script.stdout is not None
    pids = [int(text) for text in script.stdout.readline().split()]
    assert len(pids) == 3
    script.send_signal(end)
    script.wait(10)
    script.stdout.close()
    assert all(gone(pid) for pid in pids)


@pytest.mark.slow
def test_a_process_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Session.__init__.__globals__["MODULES"], "dealer", "mpcc.runtime.nowhere")
    start = time.monotonic()
    with pytest.raises(MpccError, match="dealer: the process ended with code 1.*nowhere"):
        with Session(program("relu"), "v1"):
            pass
    assert time.monotonic() - start < 20
