"""Coverage: which published Vision Transformers mpcc captures. Writes docs/coverage.json and docs/coverage.md.

Models run in another process, each with a time limit. Rows that exist are kept: an interrupted run goes on.
    python -m benchmarks.coverage.run [--library timm] [--match swin] [--again] [--limit-seconds 300]
    python -m benchmarks.coverage.run --quick 60        captures as many of the rows again, writes nothing, fails if one fell back
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.coverage.worker import Worker

ROOT = Path(__file__).resolve().parents[2]
ROWS = ROOT / "docs" / "coverage.json"
TABLE = ROOT / "docs" / "coverage.md"
NEAR = 0.05
"""Of the emulation, relative to the largest output: random weights make outputs that nothing was trained to keep apart."""
LIBRARIES = {"timm": "timm", "transformers": "transformers", "torchvision": "torchvision", "vit_pytorch": "vit-pytorch"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", choices=LIBRARIES, action="append")
    parser.add_argument("--match", default="", help="only models whose name contains this")
    parser.add_argument("--again", action="store_true", help="measure rows anew that exist")
    parser.add_argument("--failed", action="store_true", help="measure rows anew that are not captured (or not lowered)")
    parser.add_argument("--lower", action="store_true", help="also ask whether graphs lower to the secure engine: slow")
    parser.add_argument("--limit-seconds", type=float, default=300)
    parser.add_argument("--quick", type=int, metavar="N", help="capture N of the rows again and compare; write nothing")
    options = parser.parse_args()
    rows = read()
    worker = Worker(options.limit_seconds, environment())
    if options.quick is not None:
        libraries = options.library or LIBRARIES
        asked = [row for row in rows.values() if options.match in row["model"] and row["library"] in libraries]
        return quick(worker, asked, options.quick)
    models = [(library, name) for library in options.library or LIBRARIES for name in listed(library)]
    for library, name in by_turns([model for model in models if options.match in model[1]], rows):
        if wanted(rows.get((library, name)), options):
            row = worker.measure(library, name, options.lower)
            print(f"{library} {name}: {told(row)}", flush=True)
            rows = read() | {(library, name): row}  # another run may have written meanwhile
            write(rows)
    worker.stop()
    write(rows)
    failed = [row for row in rows.values() if row["status"] not in ("captured", "cannot be built")]
    return 1 if failed else 0


def quick(worker: Worker, rows: list[dict[str, Any]], most: int) -> int:
    """Captures some rows again, the quickest of each of `most` parts of the list: 1 if one is not what it was."""
    captured = [row for row in rows if row["status"] == "captured"]
    count = min(most, len(captured))
    parts = [captured[step * len(captured) // count : (step + 1) * len(captured) // count] for step in range(count)]
    chosen = [min(part, key=lambda row: float(row.get("capture_seconds", math.inf))) for part in parts]
    fell = 0
    for before in chosen:
        after = worker.measure(before["library"], before["model"], False)
        kinds, missing = sorted(after.get("sites", {})), after.get("missing_sites")  # depths may be cut otherwise than then
        same = after["status"] == "captured" and kinds == sorted(before["sites"]) and missing == before["missing_sites"]
        fell += not same
        what = told(after) if after["status"] != "captured" else f"sites {kinds}, missing {missing}"
        print(f"{before['library']} {before['model']}: {'as before' if same else f'FELL BACK: {what}'}", flush=True)
    worker.stop()
    print(f"{len(chosen)} models, {fell} fell back")
    return 1 if fell or not chosen else 0


def wanted(row: dict[str, Any] | None, options: argparse.Namespace) -> bool:
    """Whether a model is to be measured: it never was, or all are, or it failed, or only its lowering is open."""
    if row is None or options.again:
        return True
    failed = row["status"] != "captured" or options.lower and not accurate(row)
    return options.failed and failed or options.lower and row["status"] == "captured" and "lowers" not in row


def listed(library: str) -> list[str]:
    script = f"import json\nfrom benchmarks.coverage.{library}_models import names\nprint(json.dumps(names()))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment(), capture_output=True, text=True)
    if done.returncode:
        print(f"{library}: not installed here\n{done.stderr[-500:]}", file=sys.stderr)
        return []
    names: list[str] = json.loads(done.stdout.strip().splitlines()[-1])
    return names


def accurate(row: dict[str, Any]) -> bool:
    """Whether a graph lowers and its emulation is near the float model."""
    return "lowers" in row and row["lowers"] is None and row.get("secure_error", float("inf")) <= NEAR


def by_turns(models: list[tuple[str, str]], rows: dict[tuple[str, str], dict[str, Any]]) -> list[tuple[str, str]]:
    """One model of every module, then a second of each ...: what an interrupted run leaves out is the variety of a few.

    Those that were lowered before come first, the quickest of a turn first.
    """
    turn: Counter[tuple[str, str]] = Counter()
    order = []
    for library, name in models:
        module = (library, name.partition("/")[0])
        took = rows.get((library, name), {}).get("lower_seconds", float("inf"))
        order.append((math.isinf(took), turn[module], took, library, name))
        turn[module] += 1
    return [(library, name) for *_, library, name in sorted(order)]


def told(row: dict[str, Any]) -> str:
    """One line of progress: what became of a model."""
    if row["status"] != "captured" or "lowers" not in row:
        return f"{row['status']} {row.get('reason', row.get('relative_error'))}"
    return f"not lowered: {row['lowers']}" if row["lowers"] else f"lowered, error {row.get('secure_error', -1):.1e}"


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def read() -> dict[tuple[str, str], dict[str, Any]]:
    if not ROWS.exists():
        return {}
    return {(row["library"], row["model"]): row for row in json.loads(ROWS.read_text())["rows"]}


def write(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    ordered = [clean(rows[key]) for key in sorted(rows)]
    versions = {package: version(package) for package in ("torch", *LIBRARIES.values())}
    ROWS.write_text(json.dumps({"versions": versions, "rows": ordered}, indent=1) + "\n")
    TABLE.write_text(table(ordered, versions))


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def clean(row: dict[str, Any]) -> dict[str, Any]:
    """No path of this machine in what is written."""
    for key in ("reason", "lowers"):
        if row.get(key):
            row[key] = row[key].replace(sys.prefix, "").replace(str(ROOT), "").replace(str(Path.home()), "")
    return row


def table(rows: list[dict[str, Any]], versions: dict[str, str]) -> str:
    lines = [
        "# Which Vision Transformers mpcc captures",
        "",
        "Made by `python -m benchmarks.coverage.run`; do not edit. Models are listed by the libraries themselves, the",
        "smallest of each family, with random weights. *Error*: the largest difference of any output to eager PyTorch,",
        "relative to that output's largest value (allowed: 1e-4). *Sites*: the non-linear operators found; a number in",
        "brackets is missing against what eager mode runs; blocks that repeat are cut. *Secure*: why the graph does not",
        "lower to the secure engine, or the error of one emulated inference, relative to the largest output (calibrated on",
        "two inputs; *near*: at most 0.05), or *yes* where it was not emulated; empty where that was not asked.",
        "`make coverage` asks what is open; a row stays until it is measured anew (`COVERAGE_OPTIONS=--again`).",
        "",
        "Versions: " + ", ".join(f"{package} {number}" for package, number in versions.items()) + ".",
        "",
        "| library | models | captured | lowered | of those emulated: near | cannot be built here |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [total(name, mine) for name, mine in (*by_library(rows), ("**all**", rows)) if mine]
    lines += ["", "What fails:", "", *(f"* {why}" for why in failures(rows))]
    for library in LIBRARIES:
        lines += [
            "",
            f"## {library}",
            "",
            "| model | captured | error | sites | secure |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [line(row) for row in rows if row["library"] == library]
    return "\n".join(lines) + "\n"


def by_library(rows: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    return [(library, [row for row in rows if row["library"] == library]) for library in LIBRARIES]


def total(name: str, rows: list[dict[str, Any]]) -> str:
    """One line of counts; percentages are of the models that can be built, and of those that were asked."""
    states = Counter(row["status"] for row in rows)
    tried = len(rows) - states["cannot be built"]
    asked = [row["lowers"] for row in rows if "lowers" in row]
    lowered = f"{asked.count(None)} of {share(asked.count(None), len(asked))}" if asked else "not asked"
    emulated = sum(row.get("secure_error") is not None for row in rows)
    near = f"{sum(accurate(row) for row in rows)} of {emulated}"
    captured = f"{states['captured']} ({share(states['captured'], tried).partition('(')[2]}"
    return f"| {name} | {tried} | {captured} | {lowered} | {near} | {states['cannot be built']} |"


def share(part: int, whole: int) -> str:
    return f"{whole} ({100 * part / max(whole, 1):.1f} %)"


def failures(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each model that is not captured, does not lower, or is emulated far off."""
    lines = []
    for row in rows:
        name = f"{row['library']} {row['model']}"
        if row["status"] == "differs":
            lines.append(f"{name}: captured, but {row['relative_error']:.0e} off")
        elif row["status"] not in ("captured", "cannot be built"):
            lines.append(f"{name}: {row['status']}: {told_short(row.get('reason', ''))}")
        elif row.get("lowers"):
            lines.append(f"{name}: does not lower: {told_short(row['lowers'])}")
        elif row.get("secure_error") is not None and not accurate(row):
            lines.append(f"{name}: lowers, emulated {row['secure_error']:.0e} off")
    return lines or ["nothing that was asked"]


def told_short(reason: str) -> str:
    return " ".join(reason.split()).replace("|", "\\|")[:300]


def line(row: dict[str, Any]) -> str:
    if row["status"] not in ("captured", "differs"):
        return f"| {row['model']} | {row['status']}: {told_short(row.get('reason', ''))} | | | |"
    missing = row.get("missing_sites", {})
    found = ", ".join(
        f"{count} {kind}" + (f" (-{missing[kind]})" if kind in missing else "") for kind, count in row["sites"].items()
    )
    lowers = row.get("lowers", "")
    if lowers is None:
        secure = f"{row['secure_error']:.1e}" if "secure_error" in row else "yes"
    else:
        secure = told_short(lowers)
    status = "yes" if row["status"] == "captured" else "differs"
    return f"| {row['model']} | {status} | {row['relative_error']:.0e} | {found} | {secure} |"


if __name__ == "__main__":
    sys.exit(main())
