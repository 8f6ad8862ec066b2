"""How jobs and answers travel between the stock engine and its parties: JSON, then tensors in safetensors' format.

Ref("x")  <->  {"ref": "x"}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from safetensors.torch import load, save

from .plan import Ref, Step, StockProgram


@dataclass(frozen=True)
class Job:
    """What one party is told. It gets its own secrets; of the other party's it gets zeros of the right shape."""

    rank: int
    rendezvous: str
    program: StockProgram
    inputs: tuple[torch.Tensor, ...]
    threads: int


@dataclass(frozen=True)
class Row:
    """What one operator took, by CrypTen's counters (bytes: both directions together) and this party's clock."""

    site: str
    layer: str
    kind: str
    rounds: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Answer:
    """Outputs (opened after counting), totals and rows; or what went wrong."""

    outputs: tuple[torch.Tensor, ...] = ()
    rounds: int = 0
    bytes: int = 0
    seconds: float = 0.0
    rows: tuple[Row, ...] = ()
    error: str | None = None


def send_job(link: Connection, job: Job) -> None:
    program = job.program
    header = {
        "rank": job.rank,
        "rendezvous": job.rendezvous,
        "threads": job.threads,
        "inputs": program.inputs,
        "outputs": program.outputs,
        "steps": [_plain(vars(step)) for step in program.steps],
    }
    groups = {"secret": program.secrets, "public": program.publics, "input": _numbered(job.inputs)}
    _send(link, header, {f"{group} {name}": t for group, tensors in groups.items() for name, t in tensors.items()})


def receive_job(link: Connection) -> Job:
    header, tensors = _receive(link)
    steps = tuple(Step(**{**_filled(step), "args": tuple(_filled(step["args"]))}) for step in header["steps"])
    secrets, publics = _group(tensors, "secret"), _group(tensors, "public")
    program = StockProgram(tuple(header["inputs"]), steps, tuple(header["outputs"]), secrets, publics)
    inputs = _listed(_group(tensors, "input"))
    return Job(header["rank"], header["rendezvous"], program, inputs, header["threads"])


def send_answer(link: Connection, answer: Answer) -> None:
    header = {name: value for name, value in vars(answer).items() if name not in ("outputs", "rows")}
    _send(link, {**header, "rows": [asdict(row) for row in answer.rows]}, _numbered(answer.outputs))


def receive_answer(link: Connection) -> Answer:
    header, tensors = _receive(link)
    rows = tuple(Row(**row) for row in header.pop("rows"))
    return Answer(outputs=_listed(tensors), rows=rows, **header)


def _send(link: Connection, header: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    link.send_bytes(json.dumps(header).encode())
    link.send_bytes(save({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}))


def _receive(link: Connection) -> tuple[Any, dict[str, torch.Tensor]]:
    header = json.loads(link.recv_bytes())
    return header, load(link.recv_bytes())


def _numbered(tensors: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    return {str(index): tensor for index, tensor in enumerate(tensors)}


def _listed(tensors: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return tuple(tensors[str(index)] for index in range(len(tensors)))


def _group(tensors: Mapping[str, torch.Tensor], group: str) -> dict[str, torch.Tensor]:
    return {name.split(" ", 1)[1]: tensor for name, tensor in tensors.items() if name.startswith(f"{group} ")}


def _plain(value: Any) -> Any:
    if isinstance(value, Ref):
        return {"ref": value.name}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _filled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Ref(value["ref"]) if set(value) == {"ref"} else {key: _filled(item) for key, item in value.items()}
    return [_filled(item) for item in value] if isinstance(value, list) else value
