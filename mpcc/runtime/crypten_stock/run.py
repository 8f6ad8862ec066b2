"""The stock engine: an nn-level graph run by CrypTen's own functions in two processes. The baseline of comparisons.

    run = run_stock(graph, [image])
    run.outputs, run.rounds, run.bytes, run.seconds, run.rows      # by CrypTen's own counters

Weights belong to party 0 and inputs to party 1; both stay secret. CrypTen's default provider makes the triples at
party 0, who could read everything: this engine is for measuring, not for use. Counted is what lies between the shared
inputs and the shared outputs.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch
from torch.fx import GraphModule

from mpcc.errors import PartyError, ShapeError
from mpcc.ir import nn

from .party import CLIENT, SERVER
from .plan import StockProgram, stock_program
from .wire import Answer, Job, Row, receive_answer, send_job

__all__ = ["Row", "StockRun", "run_stock"]

PARTY = "from mpcc.runtime.crypten_stock.party import main; main()"


@dataclass(frozen=True)
class StockRun:
    """Outputs in the clear, and the cost between shared inputs and shared outputs; `bytes` both directions together."""

    outputs: tuple[torch.Tensor, ...]
    rounds: int
    bytes: int
    seconds: float
    rows: tuple[Row, ...]


def run_stock(
    graph: GraphModule,
    inputs: Sequence[torch.Tensor],
    *,
    calibration: Sequence[torch.Tensor] | None = None,
    threads: int = 1,
    timeout_seconds: float = 600.0,
) -> StockRun:
    """Run `graph` on `inputs` under stock CrypTen.

    The public scales of reciprocals and inverse square roots come from a plain run on `calibration` (default: on the
    inputs themselves). UnsupportedOperator, RangeError and ShapeError before anything starts; PartyError when a party
    fails, dies or takes longer than `timeout_seconds`.
    """
    _check_inputs(graph, inputs)
    program = stock_program(graph, calibration if calibration is not None else inputs)
    with tempfile.TemporaryDirectory(prefix="mpcc-stock-") as folder:
        rendezvous = f"file://{Path(folder) / 'rendezvous'}"
        parties = [_Party(rank, Path(folder)) for rank in (SERVER, CLIENT)]
        try:
            for party in parties:
                party.send(_job(party.rank, rendezvous, program, inputs, threads))
            answers = _collect(parties, timeout_seconds)
        finally:
            for party in parties:
                party.stop()
    server, client = answers[SERVER], answers[CLIENT]
    return StockRun(client.outputs, client.rounds, client.bytes, max(server.seconds, client.seconds), client.rows)


def _job(rank: int, rendezvous: str, program: StockProgram, inputs: Sequence[torch.Tensor], threads: int) -> Job:
    if rank == SERVER:
        return Job(rank, rendezvous, program, tuple(torch.zeros(tensor.shape) for tensor in inputs), threads)
    hidden = {name: torch.zeros(tensor.shape) for name, tensor in program.secrets.items()}
    return Job(rank, rendezvous, replace(program, secrets=hidden), tuple(t.detach().float() for t in inputs), threads)


class _Party:
    """A process that runs one party, and the socket to it."""

    def __init__(self, rank: int, folder: Path) -> None:
        self.rank = rank
        self.log = folder / f"party{rank}.log"
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with theirs, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PARTY, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdout=log,
                stderr=log,
                env=environment,
            )
        self.link = Connection(ours.detach())

    def send(self, job: Job) -> None:
        try:
            send_job(self.link, job)
        except OSError:
            raise self.error() from None

    def receive(self) -> Answer:
        try:
            answer = receive_answer(self.link)
        except (EOFError, OSError):
            raise self.error() from None
        if answer.error is not None:
            raise PartyError(answer.error, where=f"party {self.rank} of the stock engine")
        return answer

    def error(self) -> PartyError:
        """What is known about a party that ended unexpectedly."""
        code = self.process.wait(timeout=5)
        last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
        said = f": {last[0]}" if last else ""
        return PartyError(f"the process ended with code {code}{said}", where=f"party {self.rank} of the stock engine")

    def stop(self) -> None:
        self.link.close()
        self.process.kill()
        self.process.wait()


def _collect(parties: Sequence[_Party], timeout_seconds: float) -> dict[int, Answer]:
    """The answers of all parties; the first failure of any ends the wait."""
    deadline = time.monotonic() + timeout_seconds
    answers: dict[int, Answer] = {}
    waiting = {party.link: party for party in parties}
    while waiting:
        ready = wait(list(waiting), timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            late = ", ".join(str(party.rank) for party in waiting.values())
            raise PartyError(f"no answer from party {late} after {timeout_seconds:g} s", where="the stock engine")
        for link in ready:
            assert isinstance(link, Connection)
            party = waiting.pop(link)
            answers[party.rank] = party.receive()
    return answers


def _check_inputs(graph: GraphModule, inputs: Sequence[torch.Tensor]) -> None:
    wanted = nn.inputs_of(graph)
    if len(wanted) != len(inputs):
        raise ShapeError(f"the model takes {len(wanted)} inputs, {len(inputs)} were given")
    for node, tensor in zip(wanted, inputs, strict=True):
        if tuple(tensor.shape) != nn.shape_of(node):
            raise ShapeError(
                f"the input has shape {tuple(tensor.shape)}, the model takes {nn.shape_of(node)}", where=node.name
            )
