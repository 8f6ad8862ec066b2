"""What local work takes on one machine, as `mpcc benchmark` measured it, kept in the user's cache or in any file.

Machine.read()               -> Machine(date="2026-01-31", processor="...", compute=Compute(per_call=2e-06, ...)) or None
Machine.read().outdated      -> "" where it holds for this machine as it is now, else why not
Machine.named("reference")   -> None: the protocol's own figures

Only the command line and the pipeline read it (by `mpcc.runtime.this_machine`, which measures where nothing that holds is
kept); everything below takes the constants (`Compute`) as an argument, so that a price depends on what it is given and on
nothing else.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from mpcc import files
from mpcc.errors import UsageError

from .protocol import Compute

FORMAT = "mpcc machine 3"
CONSTANTS = ("per_kernel", "per_call", "per_element", "per_mac", "per_leaf", "per_round", "per_byte")
REFERENCE, THIS = "reference", "this"
CONDITIONS = {
    "processor": "processor",
    "cores": "number of cores",
    "torch": "version of torch",
    "threads": "number of threads",
    "engine": "version of mpcc",
    "compiled": "build of the spline gates",
}
"""What local work depends on: figures hold where these fields are those of `conditions()`."""
THREADS = 1
"""Threads of a party, and of a measurement."""


@dataclass(frozen=True)
class Machine:
    """Constants of one thread, in seconds, and where and when they were measured.

    `errors`: how far each kernel's fit is from its measurement, relative (0.1 is 10 % too much). `alone`: measured for a
    party that has the machine to itself; otherwise two parties were at work. `processor` to `compiled` are what the figures
    depend on. `stale`: a run took much longer or shorter than they say; `again`: they were measured because of that.
    """

    date: str
    processor: str
    torch: str
    compute: Compute
    errors: Mapping[str, float] = field(default_factory=dict)
    alone: bool = False
    cores: int = 0
    threads: int = 0
    engine: str = ""
    compiled: bool = False
    stale: bool = False
    again: bool = False

    @staticmethod
    def here(compute: Compute, errors: Mapping[str, float] | None = None, *, alone: bool = False) -> Machine:
        """Figures of this machine, measured now."""
        return Machine(today(), compute=compute, errors=errors or {}, alone=alone, **conditions())

    @property
    def outdated(self) -> str:
        """Why these figures do not hold for this machine as it is now; empty where they do."""
        changed = [words for name, words in CONDITIONS.items() if getattr(self, name) != conditions()[name]]
        if changed:
            return f"last measured with another {', '.join(changed)}"
        return "a run disagreed with the last measurement" if self.stale else ""

    @staticmethod
    def file() -> Path:
        """Where this machine's figures are kept: machine.json in the user's cache."""
        return files.cache_folder() / "machine.json"

    @staticmethod
    def read(path: Path | None = None) -> Machine | None:
        """The figures in a file, by default this machine's; None where there are none that can be read."""
        try:
            text = (path or Machine.file()).read_text(encoding="utf-8")
        except (OSError, ValueError, RuntimeError):
            return None
        return Machine.parse(text, "this machine" if path is None else "a file")

    @staticmethod
    def parse(text: str, name: str) -> Machine | None:
        """The figures that a text holds. What an earlier version did not note is as if unknown."""
        try:
            found: Any = json.loads(text)
            if found["format"] != FORMAT:
                return None
            constants = {name: float(found["seconds"][name]) for name in CONSTANTS}
            if not all(0 <= value < math.inf for value in constants.values()):
                return None
            date, processor, torch = (str(found[name]) for name in ("date", "processor", "torch"))
            alone, stale, again, compiled = (found.get(name) is True for name in ("alone", "stale", "again", "compiled"))
            errors = {str(name): float(value) for name, value in found["errors"].items()}
            cores, threads, engine = int(found.get("cores", 0)), int(found.get("threads", 0)), str(found.get("engine", ""))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return None
        source = f"mpcc benchmark: {processor}, {sharing(alone)}, torch {torch}"  # no date: bundles name it
        compute = Compute(source, **constants, name=name)
        return Machine(date, processor, torch, compute, errors, alone, cores, threads, engine, compiled, stale, again)

    @staticmethod
    def kept() -> Machine | None:
        """This machine's figures, where they hold."""
        found = Machine.read()
        return None if found is None or found.outdated else found

    @staticmethod
    def named(choice: str | Path) -> Machine | None:
        """The machine of a file, or None for "reference", which every protocol brings along. UsageError for other names."""
        if choice == REFERENCE:
            return None
        found = Machine.read(Path(choice))
        if found is None:
            raise UsageError(
                f"invalid machine {str(choice)!r}: not a file that `mpcc benchmark` wrote",
                where="--machine",
                hint=f"One of: {REFERENCE}, {THIS}, or the path of such a file.",
            )
        return found

    def contradicted(self) -> bool:
        """Note that a run disagrees, so that the next prediction measures anew; whether it will.

        Once a day: where a measurement of today was made for that reason already, other work on the machine is to blame,
        and measuring before every prediction would change plans without end. What another process has measured since, and
        what was measured for a party by itself, is left alone.
        """
        now = Machine.read()
        if now is None or now.compute != self.compute or self.alone or (self.again and self.date == today()):
            return False
        try:
            replace(now, stale=True).write()
        except OSError:
            return False
        return True

    def write(self, path: Path | None = None) -> Path:
        """Keep it, whole or not at all."""
        place = path or Machine.file()
        place.parent.mkdir(parents=True, exist_ok=True)
        files.write(place, json.dumps(self.document(), indent=2) + "\n")
        return place

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "format": FORMAT,
            "date": self.date,
            "processor": self.processor,
            "torch": self.torch,
            "cores": self.cores,
            "threads": self.threads,
            "engine": self.engine,
            "compiled": self.compiled,
            "alone": self.alone,
            "stale": self.stale,
            "again": self.again,
            "seconds": {name: getattr(self.compute, name) for name in CONSTANTS},
            "errors": dict(self.errors),
        }


def sharing(alone: bool) -> str:
    """Whether the figures are those of a party by itself."""
    return "a party by itself" if alone else "two parties at work"


def conditions() -> dict[str, Any]:
    """This machine as it is now: a value for each of CONDITIONS."""
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 0,
        "torch": torch.__version__,
        "threads": THREADS,
        "engine": _engine(),
        "compiled": find_spec("mpcc.runtime.native._gates") is not None,
    }


def _engine() -> str:
    try:
        return importlib.metadata.version("mpcc")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def processor() -> str:
    """The model of the processor, as the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def today() -> str:
    """`2026-01-31`."""
    return datetime.date.today().isoformat()
