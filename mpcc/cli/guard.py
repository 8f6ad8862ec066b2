"""The client's inputs and outputs against calibration: warnings on stderr and in --json, or a refusal with --strict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mpcc.errors import CheckFailed

from .screen import say

if TYPE_CHECKING:
    from torch import Tensor

    from mpcc.calibration import Guard
    from mpcc.runtime.executable import Executable


@dataclass
class Watch:
    """What was found so far; with `strict`, anything found is an error. `quiet`: inputs that nobody meant are not judged."""

    guard: Guard | None
    strict: bool
    quiet: bool = False
    found: list[str] = field(default_factory=list)

    def inputs(self, calls: Sequence[Sequence[Tensor]]) -> None:
        """Before anything is sent. CheckFailed where `strict` and something is unlike calibration."""
        from mpcc.runtime.inputs import unlike_inputs

        if self.quiet:
            return
        self._note(unlike_inputs(self.guard, calls), "nothing was sent")

    def outputs(self, calls: Sequence[Sequence[Tensor]]) -> None:
        """After the outputs were opened. CheckFailed as above; they are then not written."""
        self._note(() if self.guard is None else self.guard.outputs_outside(calls), "no output was written")

    def _note(self, lines: Sequence[str], done: str) -> None:
        if lines and self.strict:
            raise CheckFailed(
                f"unlike calibration, so the answer may be wrong ({done}): {'; '.join(lines)}",
                where="--strict",
                hint="Preprocess inputs as for calibration; without --strict this is a warning.",
            )
        for line in lines:
            say(f"warning: {line}; the answer may be wrong")
        self.found += lines


def asked_of(
    executable: Executable, inputs: Sequence[Path] | None, strict: bool, first: int | None
) -> tuple[list[tuple[Tensor, ...]], Watch]:
    """The inferences that these files ask for, the `first` of them if that is given, and what watches them; an example, which
    nobody meant, where there are no files."""
    from .tensors import calls, example

    if inputs is None:
        return [example(executable)], Watch(None, strict=False, quiet=True)
    return calls(inputs, executable.input_shapes, executable.input_names)[:first], Watch(executable.guard, strict)
