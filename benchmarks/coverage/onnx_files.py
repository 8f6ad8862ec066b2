"""ONNX files of published Vision Transformers: captured, and equal to onnxruntime? Rows as JSON, and a page in docs.

    python -m benchmarks.coverage.onnx_files                     all models, both exporters, three opsets each
    python -m benchmarks.coverage.onnx_files --only swin         those whose name contains `swin`, printed only
    python -m benchmarks.coverage.onnx_files --resume            keep the models whose rows are all good

Writes docs/coverage-onnx.json and docs/coverage-onnx.md. Error: largest difference over the largest output.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import re
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from benchmarks.coverage.onnx_models import Entry, entries
from mpcc.errors import MpccError
from mpcc.frontend.onnx import capture_onnx
from mpcc.ir.nn import operator_of, sites

DOCS = Path(__file__).parents[2] / "docs"
# The older exporter writes opsets up to 20.
EXPORTS = [
    ("torchscript", 13),
    ("torchscript", 17),
    ("torchscript", 20),
    ("dynamo", 18),
    ("dynamo", 20),
    ("dynamo", 23),
]
# With onnxruntime's own optimiser behind it, which fuses into its contrib operators.
OPTIMISED = ("torchscript", 17)
TOLERANCE = 1e-4


@dataclass
class Row:
    """One file: what became of it."""

    model: str
    exporter: str
    opset: int
    exported: bool = False
    captured: bool = False
    error: float | None = None
    sites: dict[str, int] | None = None
    layers: int = 0
    seconds: float | None = None
    reason: str | None = None

    @property
    def good(self) -> bool:
        return self.error is not None and self.error <= TOLERANCE


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    target = DOCS / "coverage-onnx.json"
    rows: list[Row] = []
    if arguments.resume and target.exists():
        rows = [Row(**row) for row in json.loads(target.read_text())["rows"]]
        again = {row.model for row in rows if not row.good}
        known = {f"{entry.library}/{entry.name}" for entry in entries()} - again
        rows = [row for row in rows if row.model in known]
    done = {row.model for row in rows}
    order = [f"{entry.library}/{entry.name}" for entry in entries()]
    for entry in entries():
        name = f"{entry.library}/{entry.name}"
        if name in done or (arguments.only and arguments.only not in name):
            continue
        for row in check(entry, name):
            rows.append(row)
            print(f"{row.model:50} {row.exporter:22} {row.opset} {_verdict(row)}", flush=True)
        if not arguments.only:
            write(sorted(rows, key=lambda row: order.index(row.model)), target)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="a part of the name of the models to try; nothing is written")
    parser.add_argument("--resume", action="store_true", help="keep what an earlier run has captured well")
    return parser.parse_args()


def check(entry: Entry, name: str) -> Iterable[Row]:
    """The rows of one model."""
    try:
        with quiet():
            models = {fused: entry.build(fused) for fused in (False, True)}
    except Exception as error:  # a library may refuse for any reason: the row says it
        yield Row(name, "none", 0, reason=_short(error))
        return
    x = torch.rand(entry.shape, generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as folder:
        for exporter, opset in EXPORTS:
            path = Path(folder) / f"{exporter}{opset}.onnx"
            row = Row(name, exporter, opset)
            # Neither exporter knows torch's attention operator on five axes, or as it is before opset 14.
            if (opset >= 14 and _export(models[True], x, path, row)) or _export(models[False], x, path, row):
                _capture(path, x, row)
            yield row
            if row.exported and (exporter, opset) == OPTIMISED:
                yield _optimised(path, x, Row(name, f"{exporter} + onnxruntime", opset))


def _export(model: torch.nn.Module, x: torch.Tensor, path: Path, row: Row) -> bool:
    try:
        with quiet(), torch.no_grad():
            torch.onnx.export(
                model, (x,), str(path), dynamo=row.exporter == "dynamo", opset_version=row.opset, external_data=False
            )
        row.exported, row.reason = True, None
    except Exception as error:
        row.reason = f"the exporter fails: {_short(error)}"
    return row.exported


def _optimised(path: Path, x: torch.Tensor, row: Row) -> Row:
    """The file as onnxruntime saves it at its extended level."""
    better = path.with_suffix(".ort.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(better)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with quiet():
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    row.exported = True
    _capture(better, x, row)
    return row


def _capture(path: Path, x: torch.Tensor, row: Row) -> None:
    start = time.process_time()
    try:
        graph = capture_onnx(path)
    except MpccError as error:
        row.reason = str(error)
        return
    except Exception as error:
        row.reason = f"BUG {type(error).__name__}: {_short(error)}"
        return
    row.seconds = round(time.process_time() - start, 2)
    row.captured = True
    found = sites(graph)
    row.sites = dict(Counter(operator_of(node).name for node in found.values()))  # type: ignore[union-attr]
    row.layers = len({node.meta["layer"] for node in found.values()})
    with torch.no_grad():
        ours = graph(x)
    ours = ours if isinstance(ours, tuple) else (ours,)
    row.error = _error([item.numpy() for item in ours], _onnxruntime(path, x))


def _onnxruntime(path: Path, x: torch.Tensor) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    answers: list[np.ndarray] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return answers


def _error(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    if [item.shape for item in ours] != [item.shape for item in theirs]:
        return float("inf")
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-9)) for a, b in zip(ours, theirs, strict=True))


def _verdict(row: Row) -> str:
    if row.error is not None:
        return f"{'ok' if row.good else 'DIFFERS'} {row.error:.1e} {row.seconds} s {row.sites}"
    return f"NO: {row.reason}"


def _short(error: BaseException) -> str:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters talk a lot, also past Python's own streams."""
    logging.disable(logging.CRITICAL)
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for number in (*kept, nowhere):
            os.close(number)
        logging.disable(logging.NOTSET)


def write(rows: list[Row], target: Path) -> None:
    target.write_text(json.dumps({"tolerance": TOLERANCE, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    target.with_suffix(".md").write_text(page(rows))


def page(rows: list[Row]) -> str:
    """The table of docs/coverage-onnx.md: a row a model, a column an export."""
    columns = list(dict.fromkeys((row.exporter, row.opset) for row in rows if row.exporter != "none"))
    exported = [row for row in rows if row.exported]
    lines = [
        "# ONNX files that were captured",
        "",
        "Made by `python -m benchmarks.coverage.onnx_files`. Each file is captured at the nn level and compared with",
        f"onnxruntime: the number is the largest difference over the largest output (at most {TOLERANCE:g} is good).",
        "`-`: the exporter itself fails. Weights are random; most models are reduced in depth or image size.",
        "",
        f"{len({row.model for row in rows})} models, {len(exported)} files: "
        f"{sum(row.captured for row in exported)} captured, {sum(row.good for row in exported)} equal to onnxruntime.",
        f"The same sites (softmax, gelu, layer_norm ...) are found in all files of a model: {_same_sites(rows)} models.",
        "",
        "| model | " + " | ".join(f"{exporter} {opset}" for exporter, opset in columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    for model in dict.fromkeys(row.model for row in rows):
        of_model = {(row.exporter, row.opset): row for row in rows if row.model == model}
        cells = [_cell(of_model.get(column)) for column in columns]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    reasons = Counter((row.reason or "").strip() for row in exported if not row.captured)
    if reasons:
        lines += ["", "## Not captured", ""]
        lines += [f"- {count} files: {' '.join(reason.split())[:300]}" for reason, count in reasons.most_common()]
    return "\n".join(lines) + "\n"


def _same_sites(rows: list[Row]) -> int:
    """For how many models every file has the same number of sites of each kind."""
    counts: dict[str, set[str]] = {}
    for row in rows:
        if row.captured:
            counts.setdefault(row.model, set()).add(json.dumps(row.sites, sort_keys=True))
    return sum(len(different) == 1 for different in counts.values())


def _cell(row: Row | None) -> str:
    if row is None or not row.exported:
        return "-"
    if row.error is None:
        return "**no**"
    return f"{row.error:.0e}" if row.good else f"**{row.error:.0e}**"


if __name__ == "__main__":
    os.nice(10)
    main()
