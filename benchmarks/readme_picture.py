"""The README's picture: rounds and bytes of the digits ViT by operator, stock CrypTen beside mpcc.

    python -m benchmarks.readme_picture        writes docs/digits_vit.svg, prints the same numbers
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mpcc
from mpcc.show.bars import bars
from mpcc.show.comparison import by_operator, lines
from mpcc.show.units import count, size, times

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits_vit"
PICTURE = ROOT / "docs" / "digits_vit.svg"
NETWORK = "wan"
SMALLEST = 0.003
"""Operators with less than this part of the rounds and of the bytes, before and after, are left out of the picture."""


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    made = mpcc.optimize(DIGITS / "model.onnx", calibration=DIGITS / "calibration.npz", network=NETWORK)
    before, after = made.baseline, made.estimate
    found = by_operator(lines(made.plan, before, after), made.plan)
    for line in found:
        print(
            f"{line.name:<16} {count(line.before.rounds):>5} -> {count(line.after.rounds):>4} rounds   "
            f"{size(line.before.bytes):>10} -> {size(line.after.bytes):>10}"
        )
    print(f"{'online':<16} {count(before.rounds):>5} -> {count(after.rounds):>4} rounds   ", end="")
    print(f"{size(before.bytes):>10} -> {size(after.bytes):>10}")
    print(f"{times(before.rounds, after.rounds)} fewer rounds, {times(before.bytes, after.bytes)} fewer bytes")
    shown = [
        line
        for line in found
        if max(line.before.bytes / before.bytes, line.after.bytes / after.bytes) >= SMALLEST
        or max(line.before.rounds / before.rounds, line.after.rounds / after.rounds) >= SMALLEST
    ]
    PICTURE.write_text(bars(shown, ("stock CrypTen", "mpcc")), encoding="utf-8")
    print(f"written: {PICTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
