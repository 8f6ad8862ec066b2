"""Puts what the commands print on this commit into README.md: the session's output, the results, the security summary.

    python -m benchmarks.readme                    compute everything and say whether README.md is current
    python -m benchmarks.readme --write            the same, and write README.md and docs/digits_vit.svg
    python -m benchmarks.readme --session-only     run the README's session and rewrite its output alone
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DEMO = [sys.executable, "examples/digits_vit/demo.py", "--images", "100", "--network", "wan"]
SESSION = re.compile(r"```python\n(?P<code>.*?)```\n```\n(?P<output>.*?)```\n", re.S)
RESULTS = re.compile(r"(?<=\| --- \| ---: \| ---: \| ---: \| --- \|\n).*?\n(?=\n)", re.S)
SECURITY = re.compile(r"(?<=## Who can see what\n).*?(?=## )", re.S)


def session_output(text: str) -> str:
    """What the README's session prints, run from the root of the repository."""
    found = SESSION.search(text)
    assert found is not None, "README.md has no python block followed by its output"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", found["code"]], cwd=ROOT, stdout=-1, text=True, check=True
    )
    return done.stdout


def with_session(text: str, output: str) -> str:
    """`text` with another output below its session."""
    return SESSION.sub(lambda found: f"```python\n{found['code']}```\n```\n{output}```\n", text)


def replaced(form: re.Pattern[str], text: str, new: str) -> str:
    """`text` with `new` in the one place that the form describes; SystemExit where that is not one place."""
    made, count = form.subn(lambda _: new, text)
    if count != 1:
        raise SystemExit(f"README.md has {count} places for what is written here ({form.pattern}), not one")
    return made


def with_results(text: str, printed: str) -> str:
    """`text` with a row for each figure that the demo printed."""

    def cells(name: str) -> list[str]:
        (line,) = (line for line in printed.splitlines() if line.startswith("│") and name in line)
        return [cell.strip() for cell in line.strip("│").split("│")]

    def line(start: str) -> str:
        (found,) = (line.strip() for line in printed.splitlines() if line.strip().startswith(start))
        return found[len(start) :].strip()

    command = "`python examples/digits_vit/demo.py --images 100 --network wan`"
    rows = []
    for title, name in (
        ("online rounds", "online rounds, measured"),
        ("online bytes", "online bytes, measured"),
        ("seconds on the WAN (40 ms, 44 MB/s), predicted", "seconds on wan, predicted"),
        ("seconds on the WAN, emulated and measured", "seconds on an emulated wan, measured"),
        ("set-up bytes, once per model", "set-up bytes, once per model, measured"),
        ("from the dealer, before the input", "from the dealer, before the input"),
    ):
        _, old, new, ratio = cells(name)
        rows.append((title, old, new, ratio, command))
        command = "the same"
    rows.append(("largest logit difference, 100 held-out digits", "", line("largest logit difference"), "", command))
    rows.append(("private top-1, 100 held-out digits", "", line("private top-1"), "", command))
    return replaced(RESULTS, text, "".join(f"| {' | '.join(row)} |\n" for row in rows))


def with_security(text: str) -> str:
    """`text` with the statement that every face prints."""
    from mpcc import security

    points = "\n".join(f"* **{name}**: {said}" for name, said in security.POINTS)
    return replaced(SECURITY, text, f"{security.SUMMARY}\n{points}\n\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--session-only", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    before = README.read_text(encoding="utf-8")
    text = with_session(before, session_output(before))
    if options.session_only:
        README.write_text(text, encoding="utf-8")
        return 0
    printed = subprocess.run(DEMO, cwd=ROOT, stdout=-1, text=True, check=True).stdout
    print(printed)
    text = with_security(with_results(text, printed))
    if options.write:
        README.write_text(text, encoding="utf-8")
        subprocess.run([sys.executable, "-m", "benchmarks.readme_picture"], cwd=ROOT, check=True)
    print("README.md is current" if text == before else "README.md is not what is printed now: --write changes it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
