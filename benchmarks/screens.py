"""The pictures in docs/ of what a person sees, of the digits ViT: screen, report, site, notebook.

    python -m benchmarks.screens                              prints the screen of `mpcc optimize` at 80 columns
    python -m benchmarks.screens --write                      all: into docs/how-to/read-a-report.md, and pictures beside it
    python -m benchmarks.screens --write screens report       some of them

screens: docs/screen-80.svg, docs/screen-120.svg. report: docs/report.png, docs/report-dark.png. site: docs/site.png. notebook:
docs/notebook.png. Report, site and notebook need Chromium, the last two the packages of mpcc[docs] (`make docs` installs them).
"""

from __future__ import annotations

import argparse
import io
import os
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
DOCS = ROOT / "docs"
DIGITS = Path("examples/digits_vit")
NOTEBOOK = ROOT / "examples" / "notebooks" / "first_private_vit.ipynb"
PAGE = DOCS / "how-to" / "read-a-report.md"
BETWEEN = re.compile(r"(<!-- screen: .*? -->\n).*?(<!-- end -->)", re.S)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDE = 120
WHAT = ("screens", "report", "site", "notebook")
DARK = "--blink-settings=preferredColorScheme=0"


def screen(made: Optimized, width: int = answer.COLUMNS) -> Console:
    """What the command prints at this width, recorded."""
    console = Console(width=width, file=io.StringIO(), record=True, force_terminal=True, color_system="truecolor")
    answer.show(made, Path("digits.mpcc"), DIGITS / "calibration.npz", out=console)
    return console


def text_of(shown: Console) -> str:
    return "\n".join(line.rstrip() for line in shown.export_text(clear=False).splitlines())


def drawn(shown: Console, command: str) -> str:
    """The screen as SVG, with the reader's own fixed-width font: nothing is loaded from elsewhere. A blank line ends it, since
    the last one is clipped below its letters' baseline."""
    shown.print()
    text = shown.export_svg(title=command, unique_id=f"screen{shown.width}", clear=False)
    return re.sub(r"@font-face \{.*?\}\s*", "", text, flags=re.S)


def photograph(page: Path, target: Path, size: str = "1000,1400", *more: str) -> None:
    """The first page of an HTML file as Chromium shows it."""
    browser = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if browser is None:
        raise SystemExit(f"none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory() as profile:
        settled = "--virtual-time-budget=5000"  # milliseconds: a page's scripts and animations have ended
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}", *more]
        command = [browser, *options, settled, f"--window-size={size}", f"--screenshot={target}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True)


def report(made: Optimized, folder: Path) -> None:
    page = made.save(folder / "digits.mpcc") / "report.html"
    photograph(page, DOCS / "report.png")
    photograph(page, DOCS / "report-dark.png", "1000,1400", DARK)


def site(folder: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--no-directory-urls", "-d", str(folder / "site")]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    photograph(folder / "site" / "index.html", DOCS / "site.png", "1300,950")


def notebook(folder: Path) -> None:
    """The tutorial, executed."""
    convert = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", "--execute"]
    command = [*convert, "--output-dir", str(folder), str(NOTEBOOK)]
    subprocess.run(command, check=True, capture_output=True)
    photograph(folder / f"{NOTEBOOK.stem}.html", DOCS / "notebook.png", "1000,1400")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", nargs="*", choices=WHAT, help="write the page and the pictures; all of them by default")
    options = parser.parse_args()
    wanted = WHAT if options.write == [] else options.write or ()
    model = None
    if options.write is None or {"screens", "report"} & {*wanted}:
        inputs = ROOT / DIGITS / "calibration.npz"
        model = mpcc.optimize(ROOT / DIGITS / "model.onnx", calibration=inputs, network="wan", machine="reference")
        print(text_of(screen(model)))
    with tempfile.TemporaryDirectory() as name:
        if "screens" in wanted and model is not None:
            block = f"\n```text\n{text_of(screen(model))}\n```\n"
            text = PAGE.read_text(encoding="utf-8")
            PAGE.write_text(BETWEEN.sub(lambda found: found[1] + block + found[2], text), encoding="utf-8")
            for width in (answer.COLUMNS, WIDE):
                command = f"mpcc optimize {DIGITS}/model.onnx ..."
                (DOCS / f"screen-{width}.svg").write_text(drawn(screen(model, width), command), encoding="utf-8")
        if "report" in wanted and model is not None:
            report(model, Path(name))
        if "site" in wanted:
            site(Path(name))
        if "notebook" in wanted:
            notebook(Path(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
