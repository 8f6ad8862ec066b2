"""Times the online kernels and the transport on this machine, and fits what estimates need.

    measure().compute.per_call      -> 2.1e-06 s a call of a torch operation

Robust on a machine that others use too: CPU time of one thread instead of wall time where work is local, the best
quarter of many repeats everywhere. The kernels run as a party runs them, on shares and masks drawn at random.
"""

from __future__ import annotations

import datetime
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from ..cost import Compute
from ..cost.machine import Machine
from ..ir import borrows, dealer, online
from ..ir.ring import words
from ..schedule.local import Local, local_work
from .evaluate import Step, _getter
from .transport import Channel, Peers, Phase, Slot, empty
from .wire import Wire, tune

Progress = Callable[[str, int, int], None]
SIZES = (32, 256, 2048, 16384)
SHIFT = 12
REPEATS = 100
ROUNDS = 300
MESSAGES = (256, 8192, 131072)
"""Words of the messages that time the transport: the first for its rounds, the last for its bytes."""
DRAWN = 1 << 62


@dataclass(frozen=True)
class Case:
    """One kernel on arguments of one size: a node of a graph, made ready."""

    name: str
    node: fx.Node
    env: dict[str, Any]


class _Graph:
    """Builds one-node graphs whose inputs are drawn at random."""

    def __init__(self) -> None:
        self.graph, self.env = fx.Graph(), dict[str, Any]()
        self.generator = torch.Generator().manual_seed(0)

    def value(self, *shape: int, tensor: Tensor | None = None) -> fx.Node:
        drawn = torch.randint(-DRAWN, DRAWN, shape, generator=self.generator) if tensor is None else tensor
        node = self.graph.placeholder(f"x{len(self.env)}")
        node.meta["val"], self.env[node.name] = drawn, drawn
        return node

    def bits(self, *shape: int) -> fx.Node:
        return self.value(tensor=torch.randint(0, 2, shape, generator=self.generator))

    def case(self, target: Callable[..., Any], *args: Any) -> Case:
        node = self.graph.call_function(target, args)
        found = fx.node.map_arg(args, lambda n: self.env[n.name])
        node.meta["val"] = target(*found)
        return Case(target.__name__, node, self.env)


def cases(n: int) -> Iterator[Case]:
    """The kernels of a program on about `n` elements."""
    rows, width = max(1, n // 32), 32
    g = _Graph()
    c, r, b = g.value(n), g.value(n), g.bits(n)
    yield g.case(online.mask_with, c, r)
    yield g.case(online.combine, [c, r, b], [3, 1, 5])
    yield g.case(online.truncated, c, SHIFT, r, b)
    for degree in (2, 6):
        powers = [None, *(g.value(n) for _ in range(degree))]
        crossed = [g.value(n) for _ in range(degree)]
        yield g.case(online.power_sum, c, SHIFT, list(range(3, degree + 4)), powers, crossed)
    terms = [(i, j) for i in range(3) for j in range(3)]
    yield g.case(online.multilinear, [c, r], [SHIFT, SHIFT], terms, [g.value(n) for _ in terms])
    flag, beta = g.value(words(n)), g.bits(n)
    yield g.case(online.select, flag, beta, c, SHIFT, r, b, g.value(n), g.value(n))
    yield g.case(online.bit_number, flag, beta, (n,))
    tables = g.value(tensor=dealer.tables(g.env[r.name], 8))
    yield g.case(online.leaves, c, 5, 8, tables, g.value(words(n)))
    planes = [g.value(count, words(n)) for count in (borrows.AND_PLANES, borrows.AND_PLANES + 1, borrows.AND_PLANES)]
    yield g.case(online.and_planes, planes[0], planes[1], planes[2], g.value(len(borrows.SUBSETS), words(n)))
    x, w = g.value(rows, width), g.value(4 * width, width)
    yield g.case(online.weight_product, "linear", x, w, g.value(rows, 4 * width))
    heads, tokens = (4, max(8, int((n / 8) ** 0.5)))
    q, k = g.value(heads, tokens, 16), g.value(heads, tokens, 16)
    yield g.case(online.product, "linear", q, k, q, k, g.value(heads, tokens, tokens))


def thread_seconds(found: Sequence[Case], tell: Progress) -> list[float]:
    """CPU seconds of one call of each, in turn as in a program: a kernel that is called again and again is quicker than
    one that comes after others. The quarter that went best counts: what else runs on the machine only adds."""
    steps = []
    for case in found:
        target: Callable[..., Any] = case.node.target  # type: ignore[assignment]
        getters = tuple(_getter(argument) for argument in case.node.args)
        steps.append((Step("out", target, getters, {}, (), False), dict(case.env)))
    times: list[list[float]] = [[] for _ in found]
    for repeat in range(REPEATS):
        tell("kernels", repeat, REPEATS)
        for (step, env), each in zip(steps, times, strict=True):
            start = time.thread_time()
            step.run(env)
            each.append(time.thread_time() - start)
    tell("kernels", REPEATS, REPEATS)
    return [sorted(each)[REPEATS // 4] for each in times]


def fit(rows: Sequence[Local], seconds: Sequence[float]) -> Local:
    """Seconds a kernel, a call, an element, a multiply-add: none below zero, least squares of the relative errors."""
    from scipy.optimize import nnls

    took = np.asarray(seconds)
    scaled = np.asarray([astuple(row) for row in rows]) / took[:, None]
    sizes = np.linalg.norm(scaled, axis=0)
    found, _ = nnls(scaled / sizes, np.ones(len(rows)))
    return Local(*(found / sizes).tolist())


def measure(progress: Progress | None = None) -> Machine:
    """Calibrate this machine: some ten seconds on an idle one."""
    tell = progress or (lambda stage, done, total: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [case for size in SIZES for case in cases(size)]
        took = thread_seconds(found, tell)
    finally:
        torch.set_num_threads(threads)
    rows = [local_work(case.node, True) for case in found]
    each = fit(rows, took)
    errors: dict[str, list[float]] = {}
    for case, row, seconds in zip(found, rows, took, strict=True):
        predicted = sum(amount * price for amount, price in zip(astuple(row), astuple(each), strict=True))
        errors.setdefault(case.name, []).append(predicted / seconds - 1)
    tell("transport", 0, 1)
    per_round, per_byte = transport_seconds()
    tell("transport", 1, 1)
    compute = Compute(
        "measured now",
        per_round=per_round,
        per_byte=per_byte,
        per_kernel=each.kernels,
        per_call=each.calls,
        per_element=each.elements,
        per_mac=each.macs,
    )
    worst = {name: round(_furthest(parts), 3) for name, parts in errors.items()}
    return Machine(datetime.date.today().isoformat(), processor(), torch.__version__, compute, worst)


def _furthest(errors: Sequence[float]) -> float:
    return max(errors, key=abs)


# ---- transport -----------------------------------------------------------------------------------------------------


def transport_seconds() -> tuple[float, float]:
    """Seconds of an exchange with another process by itself, and of each byte (both directions) of a large one."""
    from .session import connected

    ours, theirs = connected()
    with theirs:
        command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno())]
        other = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=_environment())
    try:
        least = exchange(ours)
    finally:
        other.kill()
        other.wait()
    small, large = least[MESSAGES[0]], least[MESSAGES[-1]]
    return small, max(0.0, large - small) / (16 * MESSAGES[-1])


def exchange(sock: Any) -> dict[int, float]:
    """Both ends: exchanges of each size, all timed; the quarter that went best counts (others' work only adds)."""
    tune(sock)
    peers = Peers("calibration")
    channel = Channel(Wire(sock), "the other end", peers, timeout=30.0)
    took = {}
    try:
        for phase, count in enumerate(MESSAGES):
            payload, buffer, times = empty(count).zero_(), empty(count), []
            for index in range(ROUNDS if count < MESSAGES[-1] else ROUNDS // 6):
                slot = Slot(Phase.ONLINE, phase, index)
                channel.post(slot, buffer)
                start = time.perf_counter()
                channel.send(slot, payload)
                channel.receive(slot)
                times.append(time.perf_counter() - start)
            times.sort()
            took[count] = times[len(times) // 4]
    finally:
        peers.leave()
    return took


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}


def processor() -> str:
    """The model of the processor, as the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    import socket

    exchange(socket.socket(fileno=int(sys.argv[1])))
