"""One process of a measured inference: a party of the stock engine, or a party or the dealer of mpcc.

    stock FD [cpu]         the stock engine's party; its job comes and its answer goes over the socket FD
    mpcc JOB.json ROLE     `mpcc.runtime.session.standalone.run_party`; prints a JSON line for each inference

With `cpu`, the online phase is measured by the processor time of this process (all threads) instead of the clock: both
engines take `time.perf_counter` from their own module, which is given the other clock here.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PROCESSOR = SimpleNamespace(perf_counter=time.process_time, monotonic=time.monotonic)


def stock(cpu: bool) -> None:
    from mpcc.runtime.crypten_stock import party as stock_party

    sys.argv = sys.argv[1:]
    if cpu:
        stock_party.time = PROCESSOR  # type: ignore[attr-defined]
    stock_party.main()


def mpcc(job: dict[str, Any], role: str) -> None:
    from safetensors.torch import load_file

    from mpcc.program import Program
    from mpcc.runtime.engine import inference
    from mpcc.runtime.net.connect import PeerConfig
    from mpcc.runtime.session.standalone import PartyConfig, run_party

    if job["cpu"]:
        inference.time = PROCESSOR  # type: ignore[attr-defined]
    folder = Path(job["folder"])
    weights = load_file(folder / "weights.st") if role == "server" else {}
    program = Program.from_json((folder / "program.json").read_text(), weights)
    images = load_file(folder / "inputs.st")
    peers = PeerConfig(role, {k: (host, port) for k, (host, port) in job["peers"].items()}, None, True, 120.0)
    config = PartyConfig(
        peers,
        ahead=1,
        report=lambda report: _say(seconds=report.seconds),
        result=lambda outcome: _say(
            seconds=outcome.seconds,
            rounds=outcome.rounds,
            bytes=outcome.bytes,
            offline_bytes=outcome.offline_bytes,
            offline_seconds=outcome.offline_seconds,
            output=outcome.outputs[0].tolist(),
        ),
    )
    inputs = [(images[name],) for name in sorted(images, key=int)] if role == "client" else ()
    run_party(program, "benchmark", config, inputs)


def _say(**found: Any) -> None:
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "stock":
        stock("cpu" in sys.argv[3:])
    else:
        mpcc(json.loads(Path(sys.argv[2]).read_text()), sys.argv[3])
