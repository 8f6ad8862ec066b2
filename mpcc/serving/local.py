"""All roles of a service as processes of this machine, for trying out: certificates, addresses and processes of one folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mpcc.bundle.folder import PUBLIC_FOLDER
from mpcc.errors import PartyError
from mpcc.runtime.net.authority import make
from mpcc.runtime.net.connect import free_ports
from mpcc.runtime.net.handshake import DEALER, HELPER, SERVER

READY_SECONDS = 120.0
STOP_SECONDS = 8.0
HOST = "127.0.0.1"
ASK = "import sys; from mpcc.serving.local import ready; sys.exit(not ready(sys.argv[1]))"


@dataclass(frozen=True)
class Place:
    """Where a role runs: its address, and what to put before its command (a network namespace, in benchmarks)."""

    address: str = HOST
    command: Sequence[str] = ()


@dataclass(frozen=True)
class Replica:
    """Where one replica answers clients."""

    server: str
    helper: str


class Here:
    """The processes of `replicas` replicas."""

    def __init__(
        self, bundle: Path, folder: Path, *, replicas: int, port: int, options: Sequence[str],
        places: Mapping[str, Place] | None = None,
    ) -> None:  # fmt: skip
        """`folder`: empty, private. `port`: of the first server; helpers and more replicas follow. `options`: of all roles."""
        self.bundle, self.folder, self.options = bundle, folder, list(options)
        self.places = {role: Place() for role in (SERVER, HELPER, DEALER)} | dict(places or {})
        self.replicas: list[Replica] = []
        self.processes: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
        self._commands: dict[tuple[str, int], list[str]] = {}
        make(folder / "keys", 30)
        for number in range(replicas):
            self._plan(number, port + 2 * number)

    def _plan(self, number: int, port: int) -> None:
        at = {role: place.address for role, place in self.places.items()}
        ports = free_ports(2)
        peers = f"server={at[SERVER]}:{ports[0]},dealer={at[DEALER]}:{ports[1]}"
        fronts = {SERVER: f"{at[SERVER]}:{port}", HELPER: f"{at[HELPER]}:{port + 1}", DEALER: None}
        self.replicas.append(Replica(f"http://{fronts[SERVER]}", f"http://{fronts[HELPER]}"))
        for role, front in fronts.items():
            bundle = self.bundle if role == SERVER else self.bundle / PUBLIC_FOLDER
            self._commands[role, number] = [
                *self.places[role].command, sys.executable, "-m", "mpcc", "serve",
                str(bundle), "--role", role, "--replica", str(number),
                "--peers", peers, "--tls", str(self.folder / "keys" / role), *self.options,
                "--until-stdin-closes", *([] if front is None else ["--http", front]),
                *([] if front is None or at[role] == HOST else ["--http-plain"]),
            ]  # fmt: skip

    def start(self) -> None:
        for role, number in self._commands:
            self.launch(role, number)

    def launch(self, role: str, number: int = 0) -> None:
        """Start a process, for the first time or after it was killed."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (self.folder / f"{role}.{number}.log").open("ab") as log:
            self.processes[role, number] = subprocess.Popen(
                self._commands[role, number], stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment,
                start_new_session=True,
            )  # fmt: skip  # the pipe closes when this process ends, however it does

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Until every replica answers. PartyError, with the last line of its log, where a process has ended."""
        deadline = time.monotonic() + seconds
        while not all(self.ready(replica) for replica in self.replicas):
            self.check()
            if time.monotonic() > deadline:
                raise PartyError(f"not ready within {seconds:g} s", where="mpcc serve", hint=f"logs: {self.folder}")
            time.sleep(0.1)

    def ready(self, replica: Replica) -> bool:
        """Whether both fronts of a replica say that requests can be answered; asked from where they are."""
        for role, url in ((SERVER, replica.server), (HELPER, replica.helper)):
            prefix = self.places[role].command
            command = [*prefix, sys.executable, "-c", ASK, url]
            if not (ready(url) if not prefix else subprocess.run(command, check=False).returncode == 0):
                return False
        return True

    def check(self) -> None:
        """PartyError where a process has ended."""
        for (role, number), process in self.processes.items():
            if process.poll() is not None:
                log = (self.folder / f"{role}.{number}.log").read_text(errors="replace").strip().splitlines()[-3:]
                raise PartyError(f"the process has ended: {' / '.join(log) or process.returncode}", where=role)

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def here(
    bundle: Path, *, replicas: int = 1, port: int = 8000, options: Sequence[str] = (), places: Mapping[str, Place] | None = None
) -> Iterator[Here]:
    """All roles of a service, ready, until the block is left."""
    with tempfile.TemporaryDirectory(prefix="mpcc-serve-") as folder:
        made = Here(bundle, Path(folder), replicas=replicas, port=port, options=options, places=places)
        try:
            made.start()
            made.wait_ready()
            yield made
        finally:
            made.stop()


def ready(url: str) -> bool:
    """Whether a front says that requests can be answered."""
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
