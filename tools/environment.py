"""Makes the environment in .venv: what `make setup` runs. One line a stage, and how long is left. Standard library alone.

    python tools/environment.py [--extra docs --extra spu]

What pip says is kept from the screen and shown where a stage fails.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 11)
TICK = 0.5
LONG = 30.0
"""Seconds of stages from which their pace says something of the next ones."""
SHOWN_LINES = 25


@dataclass(frozen=True)
class Stage:
    """`seconds`: what it took on two cores with a warm cache of packages; only their ratios count."""

    what: str
    seconds: float
    command: Sequence[str]


def stages(python: Path, extras: Sequence[str]) -> list[Stage]:
    """What is left to do; the whole for a new environment, the extras alone for one that is there."""
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-c", "constraints.txt"]
    if extras:
        names = ",".join(extras)
        return [Stage(f"mpcc[{names}]", 20, [*pip, "--no-build-isolation", "--editable", f".[{names}]"])]
    new = [] if python.exists() else [Stage("a virtual environment in .venv", 4, [sys.executable, "-m", "venv", ".venv"])]
    return [
        *new,
        # torch by itself, under its pin: an open range takes the newest release, with gigabytes of accelerator packages
        Stage("torch, the largest package", 60, [*pip, "torch", "setuptools"]),
        Stage("mpcc, and what it needs", 70, [*pip, "--no-build-isolation", "--editable", ".[dev,mpc,serve]"]),
        Stage("CrypTen", 5, [str(python), "-m", "mpcc", "install-engine"]),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--extra", action="append", default=[], help="install this extra of mpcc into the environment")
    options = parser.parse_args()
    if sys.version_info < OLDEST:
        own, oldest = platform.python_version(), ".".join(map(str, OLDEST))
        print(f"mpcc needs Python {oldest} or newer; this is {own}: make setup PYTHON=/path/to/python{oldest}", file=sys.stderr)
        return 2
    todo = stages(ROOT / ".venv" / "bin" / "python", options.extra)
    done, start = 0.0, time.monotonic()
    for number, stage in enumerate(todo, 1):
        rest = sum(one.seconds for one in todo[number - 1 :])
        pace = (time.monotonic() - start) / done if done >= LONG else 1.0  # of this machine, by the stages so far
        if not run(stage, f"[{number}/{len(todo)}] {stage.what}", rest * pace):
            return 1
        done += stage.seconds
    return 0


def run(stage: Stage, title: str, left: float) -> bool:
    """One stage, with a line that says how long is left; in a terminal it counts down."""
    start, live = time.monotonic(), sys.stdout.isatty()
    print(title if live else f"{title}, about {clock(left)} left", end="", flush=True)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(stage.command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            while process.poll() is None:
                gone = time.monotonic() - start
                if live:
                    print(f"\r{title}  {clock(gone)}, about {clock(max(left - gone, 1))} left \033[K", end="", flush=True)
                time.sleep(TICK)
        except KeyboardInterrupt:
            process.wait()
            print("\ninterrupted; `make setup` goes on from here")
            sys.exit(130)
        ending = f"done in {clock(time.monotonic() - start)}" if process.returncode == 0 else "FAILED"
        print(f"\r{title}: {ending}\033[K" if live else f": {ending}", flush=True)
        if process.returncode == 0:
            return True
        said.seek(0)
        print("".join(said.readlines()[-SHOWN_LINES:]), file=sys.stderr)
        print(f"The command was: {' '.join(stage.command)}", file=sys.stderr)
        return False


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


if __name__ == "__main__":
    sys.exit(main())
