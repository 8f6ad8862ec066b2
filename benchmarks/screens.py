"""The screens in docs/: what `mpcc optimize` prints at 80 columns for the digits ViT, and its report in Chromium.

    python -m benchmarks.screens            prints the screen
    python -m benchmarks.screens --write    writes it into docs/how-to/read-a-report.md, and docs/report.png
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

import mpcc
from mpcc.cli import answer
from mpcc.pipeline import Optimized

ROOT = Path(__file__).parents[1]
DIGITS = Path("examples/digits_vit")
PAGE = ROOT / "docs" / "how-to" / "read-a-report.md"
BETWEEN = re.compile(r"(<!-- screen: .*? -->\n).*?(<!-- end -->)", re.S)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WINDOW = "1000,1400"


def screen(made: Optimized) -> str:
    """The screen at 80 columns, as the command prints it."""
    shown = io.StringIO()
    answer.show(made, Path("digits.mpcc"), DIGITS / "calibration.npz", out=Console(width=answer.COLUMNS, file=shown))
    return "\n".join(line.rstrip() for line in shown.getvalue().splitlines())


def photograph(report: Path, target: Path) -> None:
    """The first page of a report as Chromium shows it."""
    browser = next(path for path in map(shutil.which, BROWSERS) if path)
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={report.parent / 'profile'}"]
    subprocess.run([browser, *options, f"--window-size={WINDOW}", f"--screenshot={target}", report.as_uri()], check=True,
                   capture_output=True)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="write the page and the picture")
    options = parser.parse_args()
    made = mpcc.optimize(
        ROOT / DIGITS / "model.onnx", calibration=ROOT / DIGITS / "calibration.npz", network="wan", machine="reference"
    )
    text = screen(made)
    print(text)
    if not options.write:
        return 0
    block = f"\n```text\n{text}\n```\n"
    PAGE.write_text(BETWEEN.sub(lambda found: found[1] + block + found[2], PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        photograph(made.save(Path(folder) / "digits.mpcc") / "report.html", ROOT / "docs" / "report.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
