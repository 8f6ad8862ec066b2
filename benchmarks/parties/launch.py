"""Starts the processes of one measured inference, of either engine, on loopback or inside network namespaces.

stock(graph, image, spaces)          -> Measured of CrypTen's own functions: gloo over TCP
mpcc(program, images, spaces)        -> list of Measured, one an image after one set-up: parties and dealer over TCP
`spaces` None: all on this machine's loopback device. Plain TCP for both engines, no emulation in the transport.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, fx

from benchmarks.netns import Namespaces
from mpcc.program import Program
from mpcc.runtime.crypten_stock.party import CLIENT, SERVER
from mpcc.runtime.crypten_stock.plan import stock_program
from mpcc.runtime.crypten_stock.wire import Job, receive_answer, send_job
from mpcc.runtime.net.connect import free_ports

ROOT = Path(__file__).parents[2]
PARTY = "-m", "benchmarks.parties.party"
ROLES = ("server", "client", "dealer")
WAIT_SECONDS = 900.0
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


@dataclass(frozen=True)
class Measured:
    """One inference: the opened output, rounds, bytes of both directions, and the online seconds of each party."""

    output: Tensor
    rounds: int
    bytes: int
    seconds: tuple[float, ...]
    offline_bytes: int = 0


def stock(graph: fx.GraphModule, image: Tensor, spaces: Namespaces | None = None, *, cpu: bool = False) -> Measured:
    """One inference of the stock engine."""
    program = stock_program(graph, [image])
    rendezvous = f"tcp://{_address(spaces, 0)}:{free_ports(1)[0] if spaces is None else 29500}"
    with ExitStack() as stack:
        links = []
        for rank in (SERVER, CLIENT):
            ours, theirs = socket.socketpair()
            command = [sys.executable, *PARTY, "stock", str(theirs.fileno()), *(["cpu"] if cpu else [])]
            with theirs:
                _start(stack, _inside(spaces, rank) + command, pass_fds=[theirs.fileno()])
            links.append(stack.enter_context(Connection(ours.detach())))
            send_job(links[rank], Job(rank, rendezvous, program, (image,), 1))
        for link in links:
            if not link.poll(WAIT_SECONDS):
                raise TimeoutError(f"no answer of the stock engine after {WAIT_SECONDS:g} s")
        server, client = (receive_answer(link) for link in links)
    if server.error or client.error:
        raise RuntimeError(f"the stock engine failed: {server.error or client.error}")
    return Measured(client.outputs[0], client.rounds, client.bytes, (server.seconds, client.seconds))


def mpcc(
    program: Program, images: Sequence[Tensor], spaces: Namespaces | None = None, *, cpu: bool = False
) -> list[Measured]:
    """Inferences of mpcc's engine after one set-up, the dealer a process of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mpcc-bench-")))
        (folder / "program.json").write_text(program.to_json())
        save_file({k: v.detach().contiguous().clone() for k, v in program.constants.items()}, folder / "weights.st")
        save_file({str(i): image.contiguous().clone() for i, image in enumerate(images)}, folder / "inputs.st")
        peers = {r: [_address(spaces, i), free_ports(1)[0] if spaces is None else 7000] for i, r in enumerate(ROLES)}
        (folder / "job.json").write_text(json.dumps({"folder": str(folder), "peers": peers, "cpu": cpu}))
        started = {
            role: _start(
                stack,
                [*_inside(spaces, index), sys.executable, *PARTY, "mpcc", str(folder / "job.json"), role],
                stdout=subprocess.PIPE,
                text=True,
            )
            for index, role in enumerate(ROLES)
        }
        told = {role: process.communicate(timeout=WAIT_SECONDS)[0] for role, process in started.items()}
    if failed := [role for role, process in started.items() if process.returncode]:
        raise RuntimeError(f"{', '.join(failed)} of mpcc failed")
    server, client = ([json.loads(line) for line in told[role].splitlines()] for role in ROLES[:2])
    return [_measured(one, other) for one, other in zip(server, client, strict=True)]


def _measured(server: dict[str, Any], client: dict[str, Any]) -> Measured:
    output = torch.tensor(client["output"])
    times = server["seconds"], client["seconds"]
    return Measured(output, client["rounds"], client["bytes"], times, client["offline_bytes"])


def _start(stack: ExitStack, command: list[str], **options: Any) -> subprocess.Popen[Any]:
    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, **options)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def _address(spaces: Namespaces | None, index: int) -> str:
    return "127.0.0.1" if spaces is None else spaces.address(index)


def _inside(spaces: Namespaces | None, index: int) -> list[str]:
    return [] if spaces is None else spaces.command(index)
