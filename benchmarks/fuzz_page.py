"""`make fuzz`: every mutated file through its reader, and the table of docs/security.md written from what became of them.

    python -m benchmarks.fuzz_page                        all kinds, the full number of files
    python -m benchmarks.fuzz_page --only bundle plan     rows of these kinds; the other rows stay
    python -m benchmarks.fuzz_page --part 0.05            a twentieth of each, and nothing is written

Prints every case that is none of the right ones; exits 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from benchmarks import fuzz, fuzz_bundles
from benchmarks.fuzz import Found

PAGE = Path(__file__).parents[1] / "docs" / "security.md"
START, END = "<!-- fuzz -->", "<!-- /fuzz -->"
COLUMNS = {
    "refused": ("refused",),
    "accepted, right": ("accepted, right", "accepted, runs"),
    "another model": ("another model",),
    "accepted, not compared": ("accepted, not compared",),
    "tracebacks": ("TRACEBACK",),
    "over 10 s": ("HANG",),
    "over 1 GB": ("MEMORY",),
    "silent differences": ("WRONG",),
    "executions": ("EXECUTION",),
}
"""Column -> the verdicts that it counts."""
TITLES = {
    "ONNX": "ONNX", ".pt2": "`.pt2`", "NumPy": "inputs, calibration", "bundle": "bundles, hashes made to fit",
    "plan": "plans, compiled",
}  # fmt: skip
INTRODUCTION = """## Mutated files

`make fuzz` changes files by seed and gives them to their readers: an ONNX file is compared with onnxruntime; of a bundle one
file is changed, the manifest is rewritten so that its hashes fit, and the emulation is compared with the original's and with a
private run. *Another model*: one of the model's own numbers was changed, or the graph in a way that means something; weights
beyond the ranges that were calibrated are among them, as no reader can know them to be wrong.
"""


def row(kind: str, found: Iterable[Found]) -> str:
    """One line of the table. KeyError for a verdict that has no column."""
    counts = Counter(one.verdict for one in found)
    column_of = {verdict: column for column, verdicts in COLUMNS.items() for verdict in verdicts}
    columns: Counter[str] = Counter()
    for verdict, count in counts.items():
        columns[column_of[verdict]] += count
    return f"| {TITLES[kind]} | {counts.total():,} | " + " | ".join(f"{columns[column]:,}" for column in COLUMNS) + " |"


def written(text: str, rows: dict[str, str]) -> str:
    """The page with these rows; those of other kinds stay, and so does everything outside the markers."""
    if START not in text:
        text = (text.rstrip() or "# Security") + f"\n\n{INTRODUCTION}\n{START}\n{END}\n"
    before, _, rest = text.partition(START)
    table, _, after = rest.partition(END)
    old = {kind: line for line in table.splitlines() for kind, title in TITLES.items() if line.startswith(f"| {title} |")}
    known = old | rows
    head = [f"| files | tried | {' | '.join(COLUMNS)} |", "| --- |" + " ---: |" * (len(COLUMNS) + 1)]
    lines = [*head, *(known[kind] for kind in TITLES if kind in known)]
    return f"{before}{START}\n" + "\n".join(lines) + f"\n{END}{after}"


def run(part: float, only: list[str]) -> Iterator[tuple[int, Found]]:
    """Every case of these kinds."""
    for module in (fuzz_bundles, fuzz):
        kinds = {kind: one for kind, one in module.KINDS.items() if kind in only}
        if kinds:
            module.KINDS = kinds
            yield from module.fuzz(part)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", type=float, default=1.0, help="the part of the files that is tried")
    parser.add_argument("--only", nargs="+", choices=TITLES, default=list(TITLES), help="kinds of files")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found: dict[str, list[Found]] = {}
    for number, one in run(given.part, given.only):
        found.setdefault(one.kind, []).append(one)
        if one.verdict.isupper():
            print(f"{one.verdict} {one.kind} {number}: {one.what}", file=sys.stderr, flush=True)
    rows = {kind: row(kind, cases) for kind, cases in found.items()}
    print("\n".join(rows.values()))
    if given.part >= 1:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8") if PAGE.exists() else "", rows), encoding="utf-8")
    sys.exit(any(one.verdict.isupper() for cases in found.values() for one in cases))


if __name__ == "__main__":
    main()
