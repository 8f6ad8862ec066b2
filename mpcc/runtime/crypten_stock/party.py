"""One party of the stock engine, a process of its own: runs CrypTen's functions and reports what its counters say.

`main` is called in a fresh interpreter with the number of an inherited socket: the job comes through it from the
process that started this one, and the answer goes back.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import torch

from ..crypten.shim import import_crypten
from . import operators as stock_ops
from .plan import Ref, Step
from .wire import Answer, Job, Row, receive_job, send_answer

SERVER, CLIENT = 0, 1
"""Party 0 brings the weights, party 1 the inputs."""


def run_party(job: Job) -> Answer:
    """Join the other party, share, run, count, open."""
    os.environ.update(
        RANK=str(job.rank),
        WORLD_SIZE="2",
        RENDEZVOUS=job.rendezvous,
        DISTRIBUTED_BACKEND="gloo",
        GLOO_SOCKET_IFNAME="lo",
    )
    torch.set_num_threads(job.threads)
    crypten = import_crypten()
    crypten.init()
    if crypten.communicator.get().get_world_size() != 2:
        raise RuntimeError("CrypTen fell back to a single party")
    crypten.config.cfg.communicator.verbose = True
    values = _shared(crypten, job)
    link = crypten.communicator.get()
    link.barrier()
    link.reset_communication_stats()
    start = time.perf_counter()
    rows = tuple(_run_step(step, values, link) for step in job.program.steps)
    seconds = time.perf_counter() - start
    rounds, sent = link.comm_rounds, link.comm_bytes
    outputs = tuple(values[name].get_plain_text() for name in job.program.outputs)
    link.barrier()
    return Answer(outputs, int(rounds), int(sent), seconds, rows)


def _shared(crypten: Any, job: Job) -> dict[str, Any]:
    program = job.program
    values: dict[str, Any] = dict(program.publics)
    for name, tensor in sorted(program.secrets.items()):  # both parties draw their zero shares in one order
        values[name] = crypten.cryptensor(tensor, src=SERVER)
    for name, tensor in zip(program.inputs, job.inputs, strict=True):
        values[name] = crypten.cryptensor(tensor, src=CLIENT)
    return values


def _run_step(step: Step, values: dict[str, Any], link: Any) -> Row:
    before = (link.comm_rounds, link.comm_bytes, time.perf_counter())
    function = stock_ops.FUNCTIONS[step.primitive] if step.view is None else stock_ops.view(_operator(step.view))
    try:
        values[step.name] = function(*_filled(step.args, values), **_filled(step.kwargs, values))
    except Exception as error:
        error.add_note(f"at {step.site} ({step.primitive})")
        raise
    return Row(
        step.site,
        step.layer,
        step.primitive,
        int(link.comm_rounds - before[0]),
        int(link.comm_bytes - before[1]),
        time.perf_counter() - before[2],
    )


def _operator(name: str) -> Any:
    packet, overload = name.split(".")
    return getattr(getattr(torch.ops.aten, packet), overload)


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, Ref):
        return values[value.name]
    if isinstance(value, Mapping):
        return {key: _filled(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    if isinstance(value, tuple):
        return tuple(_filled(item, values) for item in value)
    return value


def main() -> None:
    """Receive a Job, send back an Answer, also of what went wrong."""
    with Connection(int(sys.argv[1])) as parent:
        try:
            answer = run_party(receive_job(parent))
        except BaseException as error:  # the parent has to learn of everything, and then ends this process
            answer = Answer(error="".join(traceback.format_exception_only(error)).strip())
        send_answer(parent, answer)
    os._exit(0)  # gloo's threads may still wait for a party that has died
