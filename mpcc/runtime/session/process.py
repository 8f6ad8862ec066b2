"""The life of a process that a session has started: it reads its job, and reports its errors.

    python -m mpcc.runtime.session.process FD        the dealer's process
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mpcc import errors
from mpcc.errors import MpccError, PartyError
from mpcc.program.program import Program

from ..device.card import device_of
from ..engine import memory
from ..net.handshake import DEALER, Terms, handshake
from ..net.pipe import Child
from ..net.transport import LinkModel, Slot
from ..net.wire import Deadline, Wire
from .participant import PEERS, Participant

START_SECONDS = 60.0
"""How long the processes of a session may start one after another."""


@dataclass(frozen=True)
class Job:
    """What a process is told: its role, the program, the terms of the session, and the sockets to its peers."""

    role: str
    program: str
    terms: Terms
    sockets: Mapping[str, int]
    rendezvous: str
    threads: int
    ahead: int
    timeout: float
    record: str | None
    device: str
    constants: Mapping[str, Tensor]

    def header(self) -> dict[str, Any]:
        link = self.terms.link
        fields = {k: v for k, v in vars(self).items() if k not in ("terms", "constants")}
        terms = vars(self.terms) | {"link": None if link is None else [link.rtt_seconds, link.bandwidth_bytes_per_s]}
        return fields | {"terms": terms}

    @staticmethod
    def read(header: dict[str, Any], constants: Mapping[str, Tensor]) -> Job:
        terms = header.pop("terms")
        link = terms.pop("link")
        return Job(**header, terms=Terms(**terms, link=None if link is None else LinkModel(*link)), constants=constants)

    def join(self) -> Participant:
        """Load the program and meet the peers. The digest compared is that of the program that this process holds."""
        program: Program = Program.from_json(self.program, self.constants)
        terms = replace(self.terms, program=hashlib.sha256(self.program.encode()).hexdigest())
        device = device_of(self.device)
        met = [peer for peer in PEERS[self.role] if peer in self.sockets]
        wires = {peer: Wire(socket.socket(fileno=self.sockets[peer])) for peer in met}
        for peer, wire in wires.items():
            handshake(wire, self.role, (peer,), terms, Deadline(max(START_SECONDS, self.timeout)))
        tap = None if self.record is None else _Recorder(self.record)
        return Participant(self.role, program, terms, wires, ahead=self.ahead, timeout=self.timeout, tap=tap, device=device)


class _Recorder:
    """Writes all payload that this process receives to a file (for tests of what is on the wire)."""

    def __init__(self, path: str) -> None:
        self.file = open(path, "wb", buffering=0)

    def __call__(self, direction: str, slot: Slot, payload: memoryview) -> None:
        if direction == "received":
            self.file.write(payload)


def at_work(threads: int) -> None:
    """Settings of a process that computes beside threads that wait for messages."""
    torch.set_num_threads(threads)
    sys.setswitchinterval(5e-4)
    memory.keep()


def run_child(work: Callable[[Job, Child], None]) -> None:
    """Run a process's work. Failures are reported to the session; the process ends at once, whatever its threads do."""
    child = Child(int(sys.argv[1]))
    header, tensors = child.command()
    code = 0
    try:
        job = Job.read(header, tensors)
        at_work(job.threads)
        work(job, child)
        child.say({"done": True})
    except BaseException as error:  # the session has to learn of everything
        child.say({"error": describe(error, header.get("role", "?"))})
        code = 1
    sys.stderr.flush()
    time.sleep(0.05)
    os._exit(code)


def describe(error: BaseException, role: str) -> dict[str, Any]:
    """An error as it travels to the session."""
    if isinstance(error, MpccError):
        return {"kind": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}
    traceback.print_exception(error)
    text = "".join(traceback.format_exception_only(error)).strip()
    return {"kind": PartyError.__name__, "what": f"internal error: {text}", "where": role, "hint": None}


def error_of(said: Mapping[str, Any]) -> MpccError:
    """The error that a process told."""
    kind = getattr(errors, str(said["kind"]), PartyError)
    made = kind(said["what"], where=said["where"], hint=said["hint"])
    return made if isinstance(made, MpccError) else PartyError(str(said["what"]))


def _dealer(job: Job, child: Child) -> None:
    assert job.role == DEALER
    participant = job.join()
    try:
        participant.deal()
    except BaseException as error:
        participant.peers.abort(error)
        raise


if __name__ == "__main__":
    run_child(_dealer)
