"""A session on one machine: the server's, the client's and the dealer's process, connected over TCP.

    with Session(program, model_version) as session:     # starts three processes, opens the masked weights: set-up
        outcome = session.run(image)                      # any number of inferences
        outcome.outputs, outcome.rounds, outcome.bytes, outcome.seconds

The sockets are connected here and inherited: no port is open to others. The weights go to the server's process
only, the inputs to the client's only. When one process ends, or this one, all end.
"""

from __future__ import annotations

import os
import secrets
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mpcc.errors import MpccError, PartyError, ShapeError
from mpcc.program.check import check_masks
from mpcc.program.program import Program

from ..dealer.dealing import INSECURE
from ..device.card import ready
from ..inputs import check_values
from ..net import pipe
from ..net.handshake import CLIENT, DEALER, SERVER, Terms
from ..net.transport import LinkModel
from .participant import PEERS, PhaseReport, Report
from .process import Job, error_of

MODULES = {
    SERVER: "mpcc.runtime.crypten.party",
    CLIENT: "mpcc.runtime.crypten.party",
    DEALER: "mpcc.runtime.session.process",
}
STOP_SECONDS = 5.0
GRACE_SECONDS = 1.5
"""How long to wait for the others' account when one process has failed: the first to speak may not know the cause."""

Progress = Callable[[str, int, int], None]
"""Called with what is going on and how far it is: ("start" | "set-up" | "online", done, all)."""


@dataclass(frozen=True)
class Outcome:
    """One inference: the outputs, opened to the client, and what it really took by the counters of the transport.

    `rounds`, `bytes` (both directions together) and `seconds` are those of the online phase, between the parties.
    """

    outputs: list[Tensor]
    rounds: int
    bytes: int
    seconds: float
    offline_seconds: float
    offline_bytes: int


class Session:
    """Three processes that run one program until the session is left."""

    def __init__(
        self,
        program: Program,
        model_version: str,
        network: LinkModel | None = None,
        *,
        insecure_dealer: bool = False,
        progress: Progress | None = None,
        threads: int = 1,
        ahead: int = 1,
        timeout: float = 120.0,
        record: Mapping[str, str] | None = None,
        device: str = "cpu",
    ) -> None:
        """`network`: delay messages as this link would. `record`: per role, a file for all that it receives (tests).
        `device`: where all three compute (`mpcc.runtime.device.card.device_of`)."""
        check_masks(program)
        ready(device)
        self.program, self.network, self.progress = program, network, progress or (lambda *_: None)
        self.terms = Terms(program.digest, model_version, secrets.token_hex(16), insecure_dealer, network)
        self.device = device
        self.threads, self.ahead, self.timeout, self.record = threads, ahead, timeout, dict(record or {})
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.setup = PhaseReport(0, 0, 0.0, 0)
        self._controls: dict[str, socket.socket] = {}
        self._logs: dict[str, Any] = {}
        self._folder = ""
        self._heard: dict[str, list[pipe.Message]] = {}
        self._number = 0
        self._healthy = False

    def __enter__(self) -> Session:
        if self.terms.insecure_dealer:
            print(INSECURE, file=sys.stderr)
        roles = [role for role in PEERS if role != DEALER or not self.terms.insecure_dealer]
        try:
            self.progress("start", 0, len(roles))
            self._start(roles)
            for role in (SERVER, CLIENT):
                self._wait(role, "joined")
            self._remove_folder()
            self.progress("set-up", 0, 1)
            self.setup = PhaseReport(**self._wait(CLIENT, "setup")[0]["setup"])
            self._wait(SERVER, "setup")
            self.progress("set-up", 1, 1)
        except BaseException:
            self._kill()
            raise
        self._healthy = True
        return self

    def run(self, *inputs: Tensor) -> Outcome:
        """One private inference. ShapeError, PartyError, SecurityError; after the latter two the session is over."""
        if not self._healthy:
            raise PartyError("the session is not running", where="session", hint="Use it in a `with` block.")
        self._check(inputs)
        self._healthy = False
        try:
            self._tell(CLIENT, {"do": "run"}, {str(i): x for i, x in enumerate(inputs)})
            header, tensors = self._wait(CLIENT, "report")
            client = Report(**header["report"])
            server = Report(**self._wait(SERVER, "report")[0]["report"])
        except BaseException:
            self._kill()
            raise
        if (server.sent, server.received, server.number) != (client.received, client.sent, client.number):
            self._kill()
            raise PartyError(f"the parties count differently: {server} and {client}", where="session")
        self._healthy = True
        outputs = [tensors[str(i)] for i in range(len(tensors))]
        return Outcome(
            outputs, client.rounds, client.bytes, client.seconds, client.offline_seconds, self._dealt(client, server)
        )

    def _dealt(self, client: Report, server: Report) -> int:
        """Bytes from the dealer, on both of its links."""
        return client.offline_bytes if self.terms.insecure_dealer else client.offline_bytes + server.offline_bytes

    def __exit__(self, *_: object) -> None:
        if self._healthy:
            self._stop()
        self._kill()

    def _check(self, inputs: tuple[Tensor, ...]) -> None:
        wanted = [tuple(n.meta["val"].shape) for n in self.program.inputs()]
        given = [tuple(x.shape) for x in inputs]
        if wanted != given:
            raise ShapeError(f"the inputs have shapes {given}, the program takes {wanted}")
        check_values(self.program, inputs)

    # -- processes --

    def _start(self, roles: list[str]) -> None:
        self._folder = tempfile.mkdtemp(prefix="mpcc-")  # for CrypTen's rendezvous file; 0700, gone once they have met
        sockets: dict[str, dict[str, socket.socket]] = {role: {} for role in roles}
        for one, other in ((SERVER, CLIENT), (SERVER, DEALER), (CLIENT, DEALER)):
            if one in roles and other in roles:
                sockets[one][other], sockets[other][one] = connected()
        text = self.program.to_json()
        jobs = {}
        for role in roles:
            numbers = {peer: sock.fileno() for peer, sock in sockets[role].items()}
            jobs[role] = Job(
                role,
                text,
                self.terms,
                numbers,
                f"file://{self._folder}/rendezvous",
                self.threads,
                self.ahead,
                self.timeout,
                self.record.get(role),
                self.device,
                self._constants(role),
            )
            self._spawn(role, list(numbers.values()))
        for ends in sockets.values():
            for sock in ends.values():
                sock.close()
        for role in reversed(roles):
            self._tell(role, jobs[role].header(), dict(jobs[role].constants))

    def _constants(self, role: str) -> Mapping[str, Tensor]:
        """What a role gets of the weights: the server all, the client the public ones, the dealer none."""
        return self.program.constants if role == SERVER else self.program.public_constants if role == CLIENT else {}

    def _spawn(self, role: str, numbers: list[int]) -> None:
        ours, theirs = socket.socketpair()
        paths = os.pathsep.join(filter(None, sys.path))
        log = self._logs[role] = tempfile.TemporaryFile()
        self._controls[role] = ours
        with theirs:
            self.processes[role] = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULES[role], str(theirs.fileno())],
                pass_fds=[theirs.fileno(), *numbers],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches this process only, which then ends them
                env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(self.threads)},
            )

    def _tell(self, role: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        try:
            pipe.send(self._controls[role], header, tensors)
        except OSError:
            raise self._verdict({}) from None

    def _stop(self) -> None:
        self._healthy = False
        try:
            pipe.send(self._controls[CLIENT], {"do": "stop"})
            deadline = time.monotonic() + STOP_SECONDS
            for process in self.processes.values():
                process.wait(max(0.1, deadline - time.monotonic()))
        except (OSError, subprocess.TimeoutExpired):
            pass

    def _kill(self) -> None:
        self._healthy = False
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        for closable in (*self._controls.values(), *self._logs.values()):
            closable.close()
        self._controls.clear()
        self._logs.clear()
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    # -- what they say --

    def _wait(self, role: str, key: str) -> pipe.Message:
        """The next message of a role that has `key`. Raises what any process has failed of."""
        while True:
            for position, message in enumerate(self._heard.get(role, [])):
                if key in message[0]:
                    return self._heard[role].pop(position)
            errors = self._listen(None)
            if errors:
                raise self._verdict(errors)

    def _listen(self, timeout: float | None) -> dict[str, MpccError | None]:
        """Hear what the processes say; errors by role, None for one that ended unexpectedly."""
        errors: dict[str, MpccError | None] = {}
        with selectors.DefaultSelector() as selector:
            for role, sock in self._controls.items():
                selector.register(sock, selectors.EVENT_READ, role)
            ready = [str(key.data) for key, _ in selector.select(timeout)]
        for role in ready:
            try:
                header, tensors = pipe.receive(self._controls[role])
            except (EOFError, OSError):
                self._controls.pop(role).close()
                errors[role] = None
                continue
            if "progress" in header:
                self.progress("online", *header["progress"])
            elif "error" in header:
                errors[role] = error_of(header["error"])
            else:
                self._heard.setdefault(role, []).append((header, tensors))
        return errors

    def _verdict(self, errors: dict[str, MpccError | None]) -> MpccError:
        """The cause, after hearing the others: first an error other than a lost link, then a process that died, then the rest."""
        told = {role: error for role, error in errors.items() if error is not None}
        deadline = time.monotonic() + GRACE_SECONDS
        while self._controls and (left := deadline - time.monotonic()) > 0:
            if len(told) == len(self.processes) or any(not isinstance(e, PartyError) for e in told.values()):
                break
            for role, error in self._listen(left).items():
                if error is not None:
                    told.setdefault(role, error)
        for error in told.values():
            if not isinstance(error, PartyError):
                return error
        for role, process in self.processes.items():
            if role not in told and process.poll() is not None:
                return self._died(role, process.returncode)
        return next(iter(told.values()), PartyError("the processes have gone", where="session"))

    def _died(self, role: str, code: int) -> PartyError:
        log = self._logs[role]
        log.seek(0)
        last = log.read().decode(errors="replace").strip().splitlines()[-1:]
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return PartyError(f"the process {ended}{': ' + last[0] if last else ''}", where=role)


def connected() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection of this process with itself."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as server:
        one = socket.create_connection(server.getsockname())
        while True:
            other, address = server.accept()
            if address == one.getsockname():
                return one, other
            other.close()  # somebody else found the port


__all__ = ["LinkModel", "Outcome", "PhaseReport", "Session"]
