"""What local work takes on one machine, as `mpcc benchmark` measured it, kept in the user's cache or in any file.

Machine.read()               -> Machine(date="2026-01-31", processor="...", compute=Compute(per_call=2e-06, ...)) or None
Machine.asked("reference")   -> None: the protocol's own figures

Only the command line and the pipeline read it; everything below takes the constants (`Compute`) as an argument, so that a
price depends on what it is given and on nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpcc import files
from mpcc.errors import UsageError

from .protocol import Compute

FORMAT = "mpcc machine 2"
CONSTANTS = ("per_kernel", "per_call", "per_element", "per_mac", "per_round", "per_byte")
REFERENCE, THIS = "reference", "this"


@dataclass(frozen=True)
class Machine:
    """Constants of one thread, in seconds, and where and when they were measured.

    `errors`: how far each kernel's fit is from its measurement, relative (0.1 is 10 % too much). `alone`: measured for a
    party that has the machine to itself; otherwise two parties were at work.
    """

    date: str
    processor: str
    torch: str
    compute: Compute
    errors: Mapping[str, float] = field(default_factory=dict)
    alone: bool = False

    @staticmethod
    def file() -> Path:
        """Where this machine's figures are kept: machine.json in the user's cache."""
        return files.cache_folder() / "machine.json"

    @staticmethod
    def read(path: Path | None = None) -> Machine | None:
        """The figures in a file, by default this machine's; None where there are none that can be read."""
        try:
            found: Any = json.loads((path or Machine.file()).read_text(encoding="utf-8"))
            if found["format"] != FORMAT:
                return None
            constants = {name: float(found["seconds"][name]) for name in CONSTANTS}
            if not all(0 <= value < math.inf for value in constants.values()):
                return None
            date, processor, torch = (str(found[name]) for name in ("date", "processor", "torch"))
            alone = found["alone"] is True
            errors = {str(name): float(value) for name, value in found["errors"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
            return None
        source = f"mpcc benchmark: {processor}, {sharing(alone)}, torch {torch}"  # no date: bundles name it
        name = "this machine" if path is None else "a file"
        return Machine(date, processor, torch, Compute(source, **constants, name=name), errors, alone)

    @staticmethod
    def asked(choice: str | Path | Machine | None) -> Machine | None:
        """The machine that `--machine` names; None is the reference, which every protocol brings along.

        "reference"; "this", which must have been measured; the file of another machine; by default this machine where it
        was measured, else the reference.
        """
        if choice is None or isinstance(choice, Machine):
            return choice or Machine.read()
        if choice == REFERENCE:
            return None
        found = Machine.read(None if choice == THIS else Path(choice))
        if found is None and choice == THIS:
            raise UsageError("this machine has not been measured", where="--machine", hint="Run `mpcc benchmark`.")
        if found is None:
            raise UsageError(
                f"invalid machine {str(choice)!r}: not a file that `mpcc benchmark` wrote",
                where="--machine",
                hint=f"One of: {REFERENCE}, {THIS}, or the path of such a file.",
            )
        return found

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
            "alone": self.alone,
            "seconds": {name: getattr(self.compute, name) for name in CONSTANTS},
            "errors": dict(self.errors),
        }


def sharing(alone: bool) -> str:
    """Whether the figures are those of a party by itself."""
    return "a party by itself" if alone else "two parties at work"
