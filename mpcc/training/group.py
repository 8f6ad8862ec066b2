"""Data-parallel training under torchrun: batches are divided among the processes, gradients averaged."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from mpcc.errors import UsageError

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Group:
    """This process's rank among `size` processes, and the device that it trains on. The first one writes files."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch: every `size`-th."""
        return batch[self.rank :: self.size]

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients over all processes."""
        if self.size == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        distributed.all_reduce(flat)
        flat /= self.size
        for grad, part in zip(grads, torch.split(flat, [g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    def wait(self) -> None:
        """Block until every process has arrived here."""
        if self.size > 1:
            distributed.barrier()


def device_of(name: str | None) -> torch.device:
    """The device of that name; without a name this process's GPU if there is one, else the CPU. UsageError if unusable."""
    if name is None:
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        what = str(error).splitlines()[0]
        raise UsageError(f"cannot train on {name!r}: {what}", where="--device", hint="One of: cpu, cuda, cuda:1 ...") from None
    return device


@contextmanager
def group(device: str | None = None) -> Iterator[Group]:
    """The group that torchrun set up, or this process alone, on `device` (see `device_of`)."""
    chosen = device_of(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Group(device=chosen)
        return
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size(), chosen)
    finally:
        distributed.destroy_process_group()
