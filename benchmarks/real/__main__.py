"""Real pretrained models from packages, end to end: captured, compiled, run privately, and their answers compared with float's.

    python -m benchmarks.real                        every model that docs/real-models.json has not yet; writes it and the page
    python -m benchmarks.real pp-ocrv4 --again       one, measured anew
    python -m benchmarks.real --private 0            no private runs, which take the most memory
    python -m benchmarks.real dinov2-saliency --network wan     a plan for another network than lan, in a row of its own

Each model is measured in a process of its own, so that its peak of memory is its own. Seconds depend on what else the machine
does: the load is noted. Nothing of a package runs; its weights are read.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor

import mpcc
from mpcc import files

from .models import EVERY, MODELS, Call, Real, feeds

DOCS = Path(__file__).parents[2] / "docs"
JSON, PAGE, HEAD = DOCS / "real-models.json", DOCS / "real-models.md", Path(__file__).with_name("page.md")
BUSY = 1.0
"""Load beside ours from which seconds are not believed."""


@dataclass(frozen=True)
class Row:
    """What was measured of a model; `without` is the same without one input of the user's."""

    name: str
    capture_error: float
    rounds: int
    megabytes: float
    predicted_seconds: float
    answers: list[float]
    optimize_seconds: float
    optimize_cpu_seconds: float
    compiler_bytes: int
    without: list[float]
    rounds_without: int
    private: list[float] = field(default_factory=list)
    private_error: float = 0.0
    measured_seconds: float = 0.0
    peak_bytes: dict[str, int] = field(default_factory=dict)
    load: float = 0.0
    network: str = "lan"

    @property
    def key(self) -> tuple[str, str]:
        return self.name, self.network


def measured(model: Real, private: int, network: str) -> Row:
    """One model, in this process."""
    torch.set_num_threads(1)
    calibration, asked = model.calls()
    path = model.path()
    graph = mpcc.capture(path, input_shapes=model.shapes, fixed=model.fixed)
    with torch.no_grad():
        expected = [_first(graph(*call)) for call in asked]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = [torch.from_numpy(session.run(None, feeds(model, call, session))[0]) for call in asked]
    capture_error = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(expected, wanted, strict=True))
    start, cpu, load = time.perf_counter(), time.process_time(), os.getloadavg()[0]
    made = mpcc.optimize(graph, calibration=calibration, network=network)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    executable = made.executable()
    blind = mpcc.optimize(graph, network=network)
    row = Row(
        model.name, capture_error, int(made.estimate.rounds), float(made.estimate.bytes) / 1e6, float(made.estimate.seconds),
        _judged(model, wanted, _emulated(executable, asked)), seconds, cpu, peak,
        _judged(model, wanted, _emulated(blind.executable(), asked)), int(blind.estimate.rounds), load=load, network=network,
    )  # fmt: skip
    return row if private == 0 else Row(**{**asdict(row), **_private(model, executable, asked[:private], wanted)})


def _private(model: Real, executable: Any, asked: list[Call], wanted: list[Tensor]) -> dict[str, Any]:
    found, took = [], []
    with executable.session() as session:
        for call in asked:
            run = session.run(*call)
            found.append(_first(run.outputs))
            took.append(run.seconds)
        peaks = {role: _peak(process.pid) for role, process in session.opened.processes.items()}
    error = max(float((a - b).abs().max()) for a, b in zip(found, _emulated(executable, asked), strict=True))
    answers = _judged(model, wanted[: len(asked)], found)
    return {"private": answers, "private_error": error, "measured_seconds": sorted(took)[len(took) // 2], "peak_bytes": peaks}


def _emulated(executable: Any, asked: list[Call]) -> list[Tensor]:
    return [_first(executable.emulate(*call, check=False)) for call in asked]


def _judged(model: Real, wanted: list[Tensor], found: list[Tensor]) -> list[float]:
    return [model.judge(a, b) for a, b in zip(wanted, found, strict=True)]


def _first(outputs: Any) -> Tensor:
    found: Tensor = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
    return found


def _peak(process: int) -> int:
    """High-water mark of a process's resident memory."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def page(rows: list[Row]) -> str:
    """docs/real-models.md."""
    lines = [
        "| model | network | capture error | rounds | MB | answers as in float | private | without one input | optimize "
        "| GB, compiler / party | predicted / measured |",
        "| --- | --- | ---: | ---: | ---: | --- | --- | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        model = MODELS[row.name]
        party, blind = max(row.peak_bytes.values(), default=0), _said(model, row.without)
        seconds = "not timed: loaded" if row.load > BUSY else f"{row.optimize_seconds:.0f} s"
        memory = f"{row.compiler_bytes / 1e9:.1f} / {party / 1e9:.1f}"
        online = f"{row.predicted_seconds:.2g} s / " + ("-" if row.load > BUSY else f"{row.measured_seconds:.2g} s")
        lines.append(
            f"| {row.name} | {row.network} | {row.capture_error:.1e} | {row.rounds} | {row.megabytes:.1f} "
            f"| {_said(model, row.answers)} | {_said(model, row.private)} | {blind}, {row.rounds_without} rounds "
            f"| {seconds} ({row.optimize_cpu_seconds:.0f} CPU s) | {memory} | {online} |"
        )
    told = [f"* **{model.name}**: {model.what}. `{model.package}`" for model in EVERY if model.name in {row.name for row in rows}]
    return HEAD.read_text(encoding="utf-8").replace("{table}", "\n".join(lines)).replace("{models}", "\n".join(told))


def _said(model: Real, answers: list[float]) -> str:
    """How many are right, and the worst where there are degrees."""
    if not answers:
        return "not run"
    right = sum(answer >= model.good for answer in answers)
    worst = "" if model.good == 1.0 else f", {model.measure} at least {min(answers):.3f}"
    return f"{right} of {len(answers)}{worst}"


def kept() -> dict[tuple[str, str], Row]:
    """What docs/real-models.json has, by model and network."""
    return {(found := Row(**row)).key: found for row in json.loads(JSON.read_text("utf-8"))} if JSON.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"which (default: all): {', '.join(MODELS)}")
    parser.add_argument("--again", action="store_true", help="measure models anew that have been measured")
    parser.add_argument("--network", default="lan", help="that plans are made for (default: lan)")
    parser.add_argument("--private", type=int, default=2, help="private runs of a model (default: 2)")
    parser.add_argument("--row", metavar="FILE", help=argparse.SUPPRESS)  # one model, in this process: the row goes there
    options = parser.parse_args()
    if unknown := set(options.models) - set(MODELS):
        parser.error(f"there is no model {min(unknown)}; there are {', '.join(MODELS)}")
    if options.row:
        warnings.simplefilter("ignore")
        files.write(Path(options.row), json.dumps(asdict(measured(MODELS[options.models[0]], options.private, options.network))))
        return
    for name in options.models or [model.name for model in EVERY]:
        if (name, options.network) in kept() and not options.again:
            continue
        made = JSON.with_suffix(f".{name}.json")
        command = [sys.executable, "-m", "benchmarks.real", name, "--row", str(made)]
        command += ["--private", str(options.private), "--network", options.network]
        try:
            if subprocess.run(command, check=False).returncode:
                print(f"{name}: failed, see above", flush=True)
                continue
            new = Row(**json.loads(made.read_text("utf-8")))
            found = kept() | {new.key: new}
        finally:
            made.unlink(missing_ok=True)
        print(new, flush=True)
        rows = [row for model in EVERY for row in found.values() if row.name == model.name]
        files.write(JSON, json.dumps([asdict(row) for row in rows], indent=1) + "\n")
        files.write(PAGE, page(rows))


if __name__ == "__main__":
    main()
