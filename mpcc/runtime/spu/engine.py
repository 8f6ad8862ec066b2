"""The engine SPU: a circuit run by SPU's parties, each a process of its own, under the protocol that it was optimised for.

    run = run_here(circuit, weights, [(image,), (other,)])          all parties on this machine
    run_party(circuit, None, calls, Place("client", addresses, identity))      this machine is one of them

The processes may run another interpreter (`python`), where spu and its jax are installed; they are told what to do in JSON and
.npz files of private folders.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpcc import files
from mpcc.errors import MissingDependency, PartyError, SecurityError, UsageError
from mpcc.ir.circuit import Circuit
from mpcc.runtime.net.connect import free_ports
from mpcc.runtime.net.identity import KEYS, Identity
from mpcc.security import is_this_machine

from .counters import together
from .job import ANSWER, CIRCUIT, CLIENT, INPUTS, JOB, MET, OUTPUTS, PARTIES, ROLES, SERVER, WEIGHTS, Answer, Job, Row, Tls

INSTALL = 'pip install "mpcc[spu]"'
PROBE = "import spu.api, spu.utils.frontend, jax"
SECONDS = 3600.0
"""For all inferences of one run; Cheetah's ViT-Lite takes minutes each."""
POLL_SECONDS = 0.05
LOOK_SECONDS, CONNECT_SECONDS, SILENT_SECONDS = 2.0, 5.0, 60.0
"""Between two looks whether the parties of other machines are still there; for one of them to answer; and after how long without
an answer it counts as gone, as a network may be down for a while. A machine that refuses has no such party any more."""


@dataclass(frozen=True)
class SpuRun:
    """One inference: its outputs (none where this machine is not the client), bytes and messages of all `parties` that ran here
    together, and both by operation of SPU."""

    outputs: tuple[Tensor, ...]
    bytes: int
    messages: int
    parties: int
    seconds: float
    rows: Mapping[str, Row]

    @property
    def rounds(self) -> int:
        """The messages that a party sent, on average: under SEMI2K, where all speak at once, rounds."""
        return round(self.messages / self.parties)


@dataclass(frozen=True)
class Place:
    """One role, and the addresses ("host", port) of all roles in the order server, client, helper."""

    role: str
    addresses: Sequence[tuple[str, int]]
    identity: Identity | None = None


def interpreter(python: Path | None = None) -> str:
    """The interpreter that has SPU: the one that was named, or this one. MissingDependency with the command that installs it."""
    if python is None:
        if importlib.util.find_spec("spu") is None:
            hint = f"Install it with: {INSTALL}      (or name an interpreter that has it: --spu-python PATH)"
            raise MissingDependency("the engine SPU is not installed", hint=hint)
        return sys.executable
    try:
        found = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"this is no Python interpreter: {error}", where=str(python)) from None
    if found.returncode:
        said = found.stderr.strip().splitlines()[-1:] or ["it ended without a word"]
        raise MissingDependency(f"SPU cannot be imported there: {said[0]}", where=str(python), hint=f"Install it with: {INSTALL}")
    return str(python)


def run_here(
    circuit: Circuit, weights: Mapping[str, Tensor], calls: Sequence[Sequence[Tensor]], python: Path | None = None
) -> list[SpuRun]:
    """All parties as processes of this machine. PartyError when one fails or dies."""
    count = parties_of(circuit.protocol)
    program = interpreter(python)
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mpcc-spu-")))
        addresses = [("127.0.0.1", port) for port in free_ports(count)]
        parties = []
        for rank in range(count):
            folder = _prepared(root / ROLES[rank], circuit, _job(circuit, rank, addresses, len(calls)), weights, calls)
            parties.append(stack.enter_context(_started(program, folder, rank)))
        answers = [_waited(party, lambda one=party: _ended(parties, one)) for party in parties]  # type: ignore[misc]
        return _runs(answers, root / ROLES[CLIENT], len(circuit.outputs))


def run_party(
    circuit: Circuit,
    weights: Mapping[str, Tensor] | None,
    calls: Sequence[Sequence[Tensor]],
    place: Place,
    count: int,
    python: Path | None = None,
) -> list[SpuRun]:
    """This machine's part of `count` inferences. SecurityError where a link would leave it without TLS, PartyError where it
    fails or another party is gone."""
    if place.identity is None and not all(is_this_machine(host) for host, _ in place.addresses):
        raise SecurityError("a link to another machine needs TLS", where=place.role, hint=KEYS)
    wanted, rank = parties_of(circuit.protocol), ROLES.index(place.role)
    if len(place.addresses) != wanted or rank >= wanted:
        who = ", ".join(ROLES[:wanted])
        raise UsageError(f"{circuit.protocol} has {wanted} parties: {who}", where=place.role, hint="--peers names all of them")
    program = interpreter(python)
    job = _job(circuit, rank, place.addresses, count, place.identity)
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mpcc-spu-")))
        folder = _prepared(root / place.role, circuit, job, weights or {}, calls)
        party = stack.enter_context(_started(program, folder, rank))
        others = {role: address for role, address in zip(ROLES, place.addresses, strict=False) if role != place.role}
        return _runs([_waited(party, _Watch(folder, others))], folder, len(circuit.outputs))


def parties_of(protocol: str) -> int:
    """How many parties a protocol of SPU has. UsageError for another."""
    if protocol not in PARTIES:
        raise UsageError(f"SPU has no protocol called {protocol!r}", hint=f"one of: {', '.join(PARTIES)}")
    return PARTIES[protocol]


# ---- one party's process -------------------------------------------------------------------------------------------


@dataclass
class _Running:
    process: subprocess.Popen[bytes]
    folder: Path
    role: str

    def answer(self) -> Answer:
        """PartyError where the party failed. One that is done may still end badly, as its link breaks while it leaves."""
        path = self.folder / ANSWER
        if not path.exists():
            said = (self.folder / "output.log").read_text(errors="replace").strip().splitlines()[-1:]
            last = f": {said[0]}" if said else ""
            raise PartyError(f"the process ended with code {self.process.returncode}{last}", where=f"{self.role}, SPU")
        answer = Answer.from_json(path.read_text(encoding="utf-8"))
        if answer.error is not None:
            raise PartyError(f"SPU failed: {answer.error}", where=self.role)
        return answer


def _job(
    circuit: Circuit, rank: int, addresses: Sequence[tuple[str, int]], calls: int, identity: Identity | None = None
) -> Job:
    tls = None
    if identity is not None:
        identity.context(server=False)  # a clear message for files that cannot be used
        tls = Tls(*(str(path.absolute()) for path in (identity.certificate, identity.key, identity.authority)))
    return Job(rank, circuit.protocol, tuple(f"{host}:{port}" for host, port in addresses), calls, tls)


def _prepared(
    folder: Path, circuit: Circuit, job: Job, weights: Mapping[str, Tensor], calls: Sequence[Sequence[Tensor]]
) -> Path:
    """A folder of the party's own with its job and what it owns."""
    folder.mkdir(mode=0o700)
    files.write(folder / JOB, job.to_json())
    files.write(folder / CIRCUIT, circuit.to_json())
    if job.rank == SERVER:
        np.savez(folder / WEIGHTS, **{name: value.detach().numpy() for name, value in weights.items()})
    if job.rank == CLIENT:
        named = {f"{i}.{j}": one for i, call in enumerate(calls) for j, one in enumerate(call)}
        np.savez(folder / INPUTS, **{name: one.detach().numpy() for name, one in named.items()})
    return folder


@contextlib.contextmanager
def _started(program: str, folder: Path, rank: int) -> Iterator[_Running]:
    """The party's process, which is gone afterwards, whatever happens."""
    environment = dict(os.environ)
    if program != sys.executable:  # it needs mpcc, and nothing else that lies beside it here
        (folder / "import").mkdir()
        (folder / "import" / "mpcc").symlink_to(Path(__file__).parents[2], target_is_directory=True)
        environment["PYTHONPATH"] = str(folder / "import")
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-m", "mpcc.runtime.spu.party", str(folder)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=folder,
        )  # fmt: skip
    try:
        yield _Running(process, folder, ROLES[rank])
    finally:
        process.kill()
        process.wait()


def _waited(party: _Running, gone: Callable[[], str | None]) -> Answer:
    """The answer of one party. `gone` names another that has left: SPU would wait minutes for what never comes."""
    deadline = time.monotonic() + SECONDS
    while party.process.poll() is None:
        left = gone()
        if left is not None:
            if (party.folder / ANSWER).exists():  # before any leaves, all have answered
                break
            raise PartyError(f"{left} has left before the end", where=f"{party.role}, SPU", hint="Its own output says why.")
        if time.monotonic() > deadline:
            raise PartyError(f"no answer after {SECONDS:g} s", where=f"{party.role}, SPU")
        time.sleep(POLL_SECONDS)
    return party.answer()


def _ended(parties: Sequence[_Running], own: _Running) -> str | None:
    """The role of another party of this machine whose process has ended. PartyError where it failed."""
    for other in parties:
        if other is not own and other.process.poll() is not None:
            other.answer()
            return other.role
    return None


class _Watch:
    """Looks now and then whether the parties of other machines still listen, once this one has met them all."""

    def __init__(self, folder: Path, others: Mapping[str, tuple[str, int]]) -> None:
        self.met, self.others = folder / MET, others
        self.next = 0.0
        self.heard = dict.fromkeys(others, 0.0)

    def __call__(self) -> str | None:
        """The role of one that is gone."""
        now = time.monotonic()
        if now < self.next or not self.met.exists():
            return None
        if not self.next:
            self.heard = dict.fromkeys(self.others, now)
        for role, address in self.others.items():
            try:
                socket.create_connection(address, CONNECT_SECONDS).close()
                self.heard[role] = time.monotonic()
            except ConnectionRefusedError:
                return role
            except OSError:
                if time.monotonic() - self.heard[role] > SILENT_SECONDS:
                    return role
        self.next = time.monotonic() + LOOK_SECONDS
        return None


def _runs(answers: Sequence[Answer], folder: Path, outputs: int) -> list[SpuRun]:
    found: Mapping[str, np.ndarray] = {}  # type: ignore[type-arg]
    if (folder / OUTPUTS).exists():
        found = dict(np.load(folder / OUTPUTS, allow_pickle=False))
    runs = []
    for call, counts in enumerate(zip(*(answer.counts for answer in answers), strict=True)):
        values = tuple(torch.from_numpy(found[f"{call}.{i}"]).float() for i in range(outputs)) if found else ()
        size, sends = sum(one.bytes for one in counts), sum(one.sends for one in counts)
        seconds = max(one.seconds for one in counts)
        runs.append(SpuRun(values, size, sends, len(counts), seconds, together([one.rows for one in counts])))
    return runs
