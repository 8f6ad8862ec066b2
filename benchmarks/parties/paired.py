"""Predicted and measured seconds of one program, taken by turns, because the machine's speed changes within minutes.

    found = paired(program, images, Network.parse("lan"))
    found["predicted"], found["measured"], found["off"]

A cycle is one calibration of this machine (`mpcc benchmark`) and then a few inferences; of each, the quarter that went
best counts. Each inference starts when all processes are idle, so that none of the dealer's work, which is done ahead of
the input and on a machine of its own, falls into it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from mpcc import registry
from mpcc.cost import Network
from mpcc.program import Program
from mpcc.runtime.benchmark import measure
from mpcc.runtime.net.transport import LinkModel
from mpcc.runtime.session.session import Session
from mpcc.search.program_cost import program_estimate

CYCLES, RUNS, WARM_UP = 5, 8, 2
STILL_SECONDS = 0.1


def paired(
    program: Program, inputs: Sequence[Tensor], network: Network, cycles: int = CYCLES, priority: int = 0
) -> dict[str, float]:
    """Medians over the cycles, in seconds; `off` is that of predicted / measured - 1, with its least and most."""
    protocol, link = registry.protocol("mpcc"), LinkModel(network.rtt_seconds, network.bandwidth)
    predicted, measured = [], []
    with Session(program, "benchmark", link) as session:
        go_first(priority, *(process.pid for process in session.processes.values()))
        for number in range(WARM_UP):
            session.run(inputs[number % len(inputs)])
        for _ in range(cycles):
            compute = measure().compute
            predicted.append(float(program_estimate(program, protocol, network, compute).seconds))
            took = []
            for number in range(RUNS):
                settle(session)
                took.append(session.run(inputs[number % len(inputs)]).seconds)
            measured.append(sorted(took)[RUNS // 4])
    off = [p / m - 1 for p, m in zip(predicted, measured, strict=True)]
    return {
        "predicted": statistics.median(predicted),
        "measured": statistics.median(measured),
        "off": statistics.median(off),
        "off_least": min(off),
        "off_most": max(off),
    }


def settle(session: Session) -> None:
    """Wait until the session's processes use no more processor time."""
    before = -1.0
    while (now := sum(_cpu(process.pid) for process in session.processes.values())) != before:
        before = now
        time.sleep(STILL_SECONDS)


def _cpu(process: int) -> float:
    """Clock ticks of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return float(fields[11]) + float(fields[12])


def go_first(priority: int, *processes: int | str) -> None:
    """Let these processes go first (0 to 20). Where sessions are scheduled as groups, nice alone says little."""
    for process in processes:
        group = Path(f"/proc/{process}/autogroup")
        if priority and group.exists():
            group.write_text(str(-priority))
