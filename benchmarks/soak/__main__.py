"""Sessions back to back with a hostile peer beside them, and every role killed and restarted: `make soak`.

    python -m benchmarks.soak            300 sessions, then 20 kills of each role
    python -m benchmarks.soak --quick    the short form that the slow tests run

The roles are real processes on this machine's loopback device, over TLS. An honest client must be answered; only one
whose server or dealer is killed under it may fail instead, with a clear error. Memory and descriptors of server and
dealer are read after a tenth of the sessions and after the last one. Exit code 1 where anything of this does not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from mpcc.errors import MpccError
from mpcc.program.program import Program
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.net.authority import Authority, make, make_client
from mpcc.runtime.net.connect import ROLES, Address, PeerConfig, free_ports
from mpcc.runtime.net.handshake import Terms
from mpcc.runtime.net.identity import Identity
from mpcc.runtime.session.standalone import PartyConfig, run_party
from tests.models.programs import SHAPE, program

from .hostile import Hostile

VERSION = "soak"
ANSWERED, TOLD, BUG = 0, 2, 70
CLIENT_SECONDS = 90.0
MOST_GROWTH, MOST_MORE_DESCRIPTORS = 32 << 20, 80
"""Bytes and descriptors by which a role may differ between the two looks: 64 newcomers may be at the door, with a thread each."""


class Soak:
    """The processes and what they left. This process stays without threads, so that it may fork."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.program = folder, program("mixed")
        ports = free_ports(len(ROLES))
        self.addresses: dict[str, Address] = {role: ("127.0.0.1", port) for role, port in zip(ROLES, ports, strict=True)}
        authority = Authority.made(folder / "ca")
        make(folder / "keys", 1, authority)
        make_client(folder / "faithless", "faithless", 1, authority)
        make(folder / "stranger", 1)
        self.pids: dict[str, int] = {}
        self.ended: Counter[str] = Counter()
        self.unexpected: list[str] = []

    def start(self, role: str) -> None:
        """Start or restart the server or the dealer."""
        config = PartyConfig(self._peers(role), sessions=None, timeout=5.0, idle_seconds=10.0, notice=print)
        made = self.program if role == "server" else _public(self.program)
        self.pids[role] = self._fork(role, lambda: run_party(made, VERSION, config))

    def start_hostile(self) -> None:
        hostile = Hostile(
            self.addresses, self.folder / "stranger", self.folder / "faithless", Terms(self.program.digest, VERSION, None)
        )
        self.pids["hostile"] = self._fork("hostile", lambda: hostile.run(self.folder / "attacks"))

    def client(self, number: int, inferences: int = 1) -> int:
        """Start an honest client; its process."""
        return self._fork("client", lambda: self._ask(number, inferences))

    def ask(self, number: int) -> None:
        """One honest client, which must be answered."""
        self.note(_wait(self.client(number), CLIENT_SECONDS), f"client {number}")

    def note(self, code: int | None, who: str, *, may_fail: bool = False) -> None:
        """Count how a client ended."""
        names = {ANSWERED: "answered", TOLD: "told", None: "hung", -signal.SIGKILL: "killed"}
        name = names.get(code, f"exit code {code}")
        self.ended[name] += 1
        if name != "answered" and not (may_fail and name in ("told", "killed")):
            self.unexpected.append(f"{who}: {name}")

    def kill(self, role: str) -> None:
        pid = self.pids.pop(role)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def end(self) -> None:
        for role in list(self.pids):
            self.kill(role)

    def looks(self) -> dict[str, tuple[int, int]]:
        """Resident bytes and descriptors of server and dealer."""
        return {role: _look(self.pids[role]) for role in ("server", "dealer")}

    def _peers(self, role: str) -> PeerConfig:
        return PeerConfig(role, self.addresses, Identity.of(self.folder / "keys", role), connect_seconds=20.0)

    def _ask(self, number: int, inferences: int) -> None:
        made, x = _public(self.program), torch.full(SHAPE, (number % 7) / 4 - 0.75)
        config = PartyConfig(self._peers("client"), timeout=10.0, queue_seconds=60.0, notice=print)
        outcomes = run_party(made, VERSION, config, [(x,)] * inferences)
        expected = Emulator(self.program)(x)[0]
        if len(outcomes) != inferences or any((o.outputs[0] - expected).abs().max() > 0.01 for o in outcomes):
            raise AssertionError("a wrong answer")

    def _fork(self, name: str, work: Callable[[], object]) -> int:
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        log = os.open(self.folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = BUG
        try:
            random.seed(os.getpid())
            work()
            code = ANSWERED
        except MpccError as error:
            print(f"{type(error).__name__}: {error}")
            code = TOLD
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)


def _public(made: Program) -> Program:
    """The program without the weights, as client and dealer have it."""
    return Program.from_json(made.to_json(), {})


def _wait(pid: int, seconds: float) -> int | None:
    """The exit code of a child (negative: its signal); None, after killing it, where it hangs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _look(pid: int) -> tuple[int, int]:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))


def back_to_back(soak: Soak, sessions: int) -> bool:
    """Sessions without a pause; whether memory and descriptors stayed flat."""
    for number in range(max(1, sessions // 10)):
        soak.ask(number)
    before = soak.looks()
    for number in range(max(1, sessions // 10), sessions):
        soak.ask(number)
    after = soak.looks()
    for role in before:
        (memory, descriptors), (later, more) = before[role], after[role]
        print(f"{role}: {memory / 1e6:.1f} MB, {descriptors} descriptors; at the end {later / 1e6:.1f} MB, {more}")
    return all(
        after[role][0] - before[role][0] <= MOST_GROWTH and after[role][1] - before[role][1] <= MOST_MORE_DESCRIPTORS
        for role in before
    )


def kills(soak: Soak, times: int) -> None:
    """Each role killed at a random moment of a session, and restarted; then the next client must be answered."""
    for number in range(times):
        for role in ("client", "server", "dealer"):
            pid = soak.client(number, inferences=20)
            time.sleep(random.uniform(0.0, 0.6))
            if role == "client":
                os.kill(pid, signal.SIGKILL)  # a process that has ended is not gone before it is waited for
            else:
                soak.kill(role)
                soak.start(role)
            soak.note(_wait(pid, CLIENT_SECONDS), f"client {number} whose {role} was killed", may_fail=True)
            soak.ask(number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 sessions, 2 kills of each role")
    sessions, times = (20, 2) if parser.parse_args().quick else (300, 20)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="mpcc-soak-") as name:
        soak = Soak(Path(name))
        try:
            for role in ("server", "dealer"):
                soak.start(role)
            soak.ask(0)
            soak.start_hostile()
            flat = back_to_back(soak, sessions)
            first, soak.ended = soak.ended, Counter()
            print(f"{sessions} sessions and one before, back to back: {dict(first)}")
            kills(soak, times)
            print(f"each role killed {times} times: {dict(soak.ended)}")
            print(f"attacks meanwhile: {', '.join((soak.folder / 'attacks').read_text().splitlines())}")
        finally:
            soak.end()
        bugs = [line for log in Path(name).glob("*.log") for line in log.read_text().splitlines() if "Traceback" in line]
        for text in [*soak.unexpected, *bugs]:
            print(f"NOT AS IT SHOULD BE: {text}")
        if soak.unexpected or bugs:
            print((Path(name) / "client.log").read_text()[-3000:])
            print((Path(name) / "server.log").read_text()[-3000:])
        if not flat:
            print("NOT AS IT SHOULD BE: memory or descriptors grow")
    sys.exit(1 if soak.unexpected or bugs or not flat else 0)


if __name__ == "__main__":
    main()
