"""Times the online kernels and the transport on this machine, and fits what estimates need.

    measure().compute.per_call      -> 2.1e-06 s per call of a torch operation

The kernels run as a party runs them, on shares and masks drawn at random, and in step with another process that runs the
same: two parties on one machine share its caches, and on many machines the processors are two threads of one core, each
then slower than alone. By what part they are slower after a pause, as on a network, is measured besides. Other users of the
machine disturb little: local work is measured in CPU time of one thread instead of wall time, and only the best quarter of
many repeats counts.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from mpcc.cost import Compute
from mpcc.cost.machine import THREADS, Machine
from mpcc.ir import comparison_circuit, dealer, online
from mpcc.ir.curve import curve, key_words
from mpcc.ir.ring import words
from mpcc.program.local import Local, local_work

from .device.device import CPU, Device
from .engine import memory
from .engine.evaluate import Step, _getter
from .native.library import library
from .net.transport import Channel, LinkModel, Peers, Phase, Slot, empty
from .net.wire import Wire, tune

Progress = Callable[[str, int, int], None]
SIZES = (32, 256, 2048, 16384, 131072)
DEVICE_SIZES = (2048, 16384, 131072, 1 << 20)
"""A device is launched no faster for less, and the values of a large model are of these sizes."""
LAUNCHED = 4
SHIFT = 12
REPEATS, QUICK = 60, 20
"""Of each kernel. By the quick form, a program's local work is predicted within a tenth of what it is by the other, even
on a machine at several times its load; the two processes take 4 s of one core together, of which 2.6 s are imports."""
ROUNDS = 300
MESSAGES = (256, 8192, 131072)
"""Words of the messages that time the transport: the first for its rounds, the last for its bytes."""
ALONGSIDE, WAKING = len(MESSAGES), len(MESSAGES) + 1
"""Numbers of the exchanges that keep the two parties in step while kernels are timed, and of those that are woken from."""
WAKES, IN_A_ROW, WAKE_SIZE = 40, 5, 16384
"""Rounds of kernels on so many elements, the processor idle after each; means of so many in a row count."""
IDLE = LinkModel(rtt_seconds=1e-3)
"""What the processor idles for: long enough for it to sleep."""
KERNELS_A_ROUND = 12
DRAWN = 1 << 62
DEPTH, WIDTH = 5, 4
"""Of the spline gate that is timed: that of a GELU."""


@dataclass(frozen=True)
class Case:
    """One kernel on arguments of one size: a node of a graph, made ready."""

    name: str
    node: fx.Node
    env: dict[str, Any]
    size: int = 0


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
        node.meta["val"] = CPU.online(()).get(target, target)(*found)
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
    count = comparison_circuit.AND_PLANES
    planes = [g.value(size, words(n)) for size in (count, count + 1, count)]
    yield g.case(online.and_planes, planes[0], planes[1], planes[2], g.value(len(comparison_circuit.SUBSETS), words(n)))
    x, w = g.value(rows, width), g.value(4 * width, width)
    yield g.case(online.weight_product, "linear", x, w, g.value(rows, 4 * width))
    gate = (DEPTH, 16 - DEPTH, 12, [[3] * (1 << DEPTH)] * WIDTH, [0] * (1 << DEPTH))
    count = n if library() is not None or n < 4096 else 4096  # a gate in numpy takes microseconds a value
    yield g.case(curve, g.value(count), g.value(count, 2), g.value(key_words(count, DEPTH, WIDTH)), *gate)
    heads, tokens = (4, max(8, int((n / 8) ** 0.5)))
    q, k = g.value(heads, tokens, 16), g.value(heads, tokens, 16)
    yield g.case(online.product, "linear", q, k, q, k, g.value(heads, tokens, tokens))


def all_cases(sizes: Sequence[int] = SIZES) -> list[Case]:
    """Of all sizes."""
    return [replace(case, size=size) for size in sizes for case in cases(size)]


def ready(found: Sequence[Case], device: Device = CPU) -> list[tuple[Step, dict[str, Any]]]:
    """The kernels as a party on the device runs them, and their arguments there."""
    steps = []
    for case in found:
        env = {name: device.on_it(value) for name, value in case.env.items()}
        weights = [env[str(case.node.args[2])]] if case.node.target is online.weight_product else []
        target: Any = device.online(weights).get(case.node.target, case.node.target)
        getters = tuple(_getter(argument) for argument in case.node.args)
        steps.append((Step("out", target, getters, {}, (), False), env))
    return steps


def thread_seconds(
    found: Sequence[Case], repeats: int, tell: Progress, meet: Callable[[int], float] | None = None
) -> list[float]:
    """CPU seconds of one call of each, in turn as in a program: a kernel that is called repeatedly is faster than
    one that comes after others. The best quarter counts: what else runs on the machine only adds.

    `meet`: an exchange with the other party, every few kernels.
    """
    steps = ready(found)
    times: list[list[float]] = [[] for _ in found]
    for repeat in range(repeats):
        tell("kernels", repeat, repeats)
        for number, ((step, env), each) in enumerate(zip(steps, times, strict=True)):
            if meet is not None and number % KERNELS_A_ROUND == 0:
                meet(repeat * len(steps) + number)
            start = time.thread_time()
            step.run(env)
            each.append(time.thread_time() - start)
    tell("kernels", repeats, repeats)
    return [sorted(each)[repeats // 4] for each in times]


def device_seconds(found: Sequence[Case], repeats: int, tell: Progress, device: Device) -> list[float]:
    """Seconds of one call of each on a device, of LAUNCHED in a row: what it computes while the next is launched is not waited
    for, as in a program. The first run of each measures the ways to multiply; the best quarter counts."""
    took = []
    for number, (step, env) in enumerate(ready(found, device)):
        tell("kernels", number, len(found))
        step.run(env)
        times = []
        for _ in range(repeats):
            device.wait()
            start = time.perf_counter()
            for _ in range(LAUNCHED):
                step.run(env)
            device.wait()
            times.append((time.perf_counter() - start) / LAUNCHED)
        took.append(sorted(times)[repeats // 4])
    tell("kernels", len(found), len(found))
    return took


def fit(rows: Sequence[Local], seconds: Sequence[float]) -> Local:
    """Seconds per kernel, call, element, multiply-add, word of leaves: non-negative least squares of the relative errors."""
    from scipy.optimize import nnls

    took = np.asarray(seconds)
    scaled = np.asarray([astuple(row) for row in rows]) / took[:, None]
    sizes = np.maximum(np.linalg.norm(scaled, axis=0), np.finfo(float).tiny)  # what no kernel has costs nothing
    found, _ = nnls(scaled / sizes, np.ones(len(rows)))
    return Local(*(found / sizes).tolist())


def measure_device(device: Device, progress: Progress | None = None, *, repeats: int = QUICK) -> Machine:
    """Time the parties' kernels on a device, and messages between processes of this machine: a party that has both to itself."""
    tell = progress or (lambda stage, done, total: None)
    found = all_cases(DEVICE_SIZES)
    took = device_seconds(found, repeats, tell, device)
    with other_process(0) as channel:
        per_round, per_byte = transport_seconds(channel)
        cold_share(channel, [])
    compute, errors = fitted(found, took, per_round, per_byte)
    return replace(Machine.here(compute, errors, alone=True), processor=device.title)


def measure(progress: Progress | None = None, *, alone: bool = False, repeats: int = REPEATS) -> Machine:
    """Time this machine: some five seconds on an idle one.

    `alone`: for a party that has a machine to itself; otherwise both parties are at work here. `repeats`: of each kernel.
    """
    tell = progress or (lambda stage, done, total: None)
    memory.keep()
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        found = all_cases()
        with other_process(0 if alone else repeats) as channel:
            took = thread_seconds(found, repeats, tell, None if alone else Exchange(channel, ALONGSIDE))
            tell("transport", 0, 1)
            per_round, per_byte = transport_seconds(channel)
            slower = 1 + cold_share(channel, found, took, per_round)
            tell("transport", 1, 1)
    finally:
        torch.set_num_threads(threads)
    compute, worst = fitted(found, took, per_round, per_byte, slower)
    return Machine.here(compute, worst, alone=alone)


def fitted(
    found: Sequence[Case], took: Sequence[float], per_round: float, per_byte: float, slower: float = 1.0
) -> tuple[Compute, dict[str, float]]:
    """The constants that explain the seconds of the kernels, and how far they are from the worst of each."""
    rows = [local_work(case.node, True) for case in found]
    each = fit(rows, took)
    errors: dict[str, list[float]] = {}
    for case, row, seconds in zip(found, rows, took, strict=True):
        predicted = sum(amount * price for amount, price in zip(astuple(row), astuple(each), strict=True))
        errors.setdefault(case.name, []).append(predicted / seconds - 1)
    compute = Compute(
        "measured now",
        per_round=per_round,
        per_byte=per_byte,
        per_kernel=slower * each.kernels,
        per_call=slower * each.calls,
        per_element=slower * each.elements,
        per_mac=slower * each.macs,
        per_leaf=slower * each.leaves,
    )
    return compute, {name: round(_furthest(parts), 3) for name, parts in errors.items()}


def _furthest(errors: Sequence[float]) -> float:
    return max(errors, key=abs)


# ---- transport -----------------------------------------------------------------------------------------------------


@contextmanager
def other_process(repeats: int) -> Iterator[Channel]:
    """A channel to a process that does what this one does; without repeats only its part of the exchanges."""
    from .session.session import connected

    ours, theirs = connected()
    with theirs:
        command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(repeats)]
        other = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment())
    try:
        with joined(ours) as channel:
            yield channel
    finally:
        other.kill()
        other.wait()


@contextmanager
def joined(sock: socket.socket) -> Iterator[Channel]:
    tune(sock)
    peers = Peers("calibration")
    try:
        yield Channel(Wire(sock), "the other end", peers, timeout=60.0)
    finally:
        peers.leave()


class Exchange:
    """Messages of one size, there and back at once."""

    def __init__(self, channel: Channel, number: int, count: int = MESSAGES[0]) -> None:
        self.channel, self.number = channel, number
        self.payload, self.buffer = empty(count).zero_(), empty(count)

    def __call__(self, index: int) -> float:
        """Seconds of one."""
        slot = Slot(Phase.ONLINE, self.number, index)
        self.channel.post(slot, self.buffer)
        start = time.perf_counter()
        self.channel.send(slot, self.payload)
        self.channel.receive(slot)
        return time.perf_counter() - start


def transport_seconds(channel: Channel) -> tuple[float, float]:
    """Both ends: seconds of an exchange by itself, and of each byte (both directions) of a large one; the best quarter
    counts."""
    took = {}
    for number, count in enumerate(MESSAGES):
        exchange = Exchange(channel, number, count)
        times = sorted(exchange(index) for index in range(ROUNDS if count < MESSAGES[-1] else ROUNDS // 6))
        took[count] = times[len(times) // 4]
    small, large = took[MESSAGES[0]], took[MESSAGES[-1]]
    return small, max(0.0, large - small) / (16 * MESSAGES[-1])


def cold_share(channel: Channel, found: Sequence[Case], took: Sequence[float] = (), per_round: float = 0.0) -> float:
    """Both ends: by what part kernels take longer where the processor idles before them, waiting for a message.

    Caches are cold then, and the processor has slowed down: ViT-Lite takes a quarter more processor time on a network than on
    loopback. `took`: seconds of each kernel without a pause; `per_round`: of an exchange.
    """
    chosen = [number for number, case in enumerate(found) if case.size == WAKE_SIZE]
    steps = ready([found[number] for number in chosen])
    exchange, channel.link = Exchange(channel, WAKING), IDLE
    spans = []
    for first in range(0, WAKES, IN_A_ROW):
        start = time.perf_counter()
        for index in range(first, first + IN_A_ROW):
            for step, env in steps:
                step.run(env)
            exchange(index)
        spans.append((time.perf_counter() - start) / IN_A_ROW)
    channel.link = None
    work = sum(took[number] for number in chosen) if took else 0.0
    cold = sorted(spans)[len(spans) // 4] - IDLE.rtt_seconds / 2 - per_round
    return max(0.0, cold / work - 1) if work else 0.0


def environment() -> dict[str, str]:
    """Of a process that imports what this one imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": str(THREADS)}


def main(number: int, repeats: int) -> None:
    """The other end."""
    torch.set_num_threads(THREADS)
    memory.keep()
    with joined(socket.socket(fileno=number)) as channel:
        found = all_cases() if repeats else []
        if repeats:
            thread_seconds(found, repeats, lambda *_: None, Exchange(channel, ALONGSIDE))
        transport_seconds(channel)
        cold_share(channel, found)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
