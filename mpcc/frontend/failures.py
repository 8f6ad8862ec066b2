"""What torch.export's failures mean to the user: which line of their model, and what to do about it."""

from __future__ import annotations

import re
import sysconfig
import traceback
from pathlib import Path

import torch

from mpcc.errors import CaptureError, MpccError, ShapeError

_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)
_PYTHON = sysconfig.get_path("stdlib")
_NESTED = re.compile(r"nested_tensor|NestedTensor|torch\.jagged")
_DATA_DEPENDENT = re.compile(r"data-dependent|GuardOnDataDependent|Could not extract specialized", re.I)


class SecretCondition(CaptureError):
    """A condition on the value of a tensor, which torch.export refuses whether it is of an input or of a buffer."""


def capture_error(error: Exception, module: torch.nn.Module) -> MpccError:
    """The error to show for `error`, raised while `module` was traced."""
    line = user_line(error)
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if _NESTED.search(f"{line} {first}"):
        return CaptureError(
            "nested tensors have no static shape",
            where=line,
            hint="Pad the sequences to one length, and mask what was added in attention.",
        )
    if _DATA_DEPENDENT.search(f"{type(error).__name__} {error}"):
        return SecretCondition(
            "the flow of control depends on the values of an input, which are secret",
            where=line,
            hint="Use torch.where, a mask or torch.clamp instead of `if` and `while` on a tensor's value.",
        )
    if isinstance(error, RuntimeError) and ("size of tensor" in first or "shape" in first and "invalid" in first):
        return ShapeError(f"the example input does not fit {type(module).__name__}: {first}", where=line)
    return CaptureError(
        f"torch.export cannot trace {type(module).__name__}: {type(error).__name__}: {first}",
        where=line,
        hint="Check that model(*example_inputs) runs; torch.export.export(model, inputs) shows the whole story.",
    )


def user_line(error: BaseException) -> str | None:
    """`file:line: code` of the innermost frame that is neither torch's nor ours; None if there is none."""
    quoted = re.findall(r'File "([^"]+)", line (\d+), in .*\n\s+(.+)', str(error))
    for file, number, code in reversed(quoted):
        if not _is_machinery(file):
            return f"{file}:{number}: {code.strip()}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not _is_machinery(frame.filename):
            return f"{frame.filename}:{frame.lineno}: {(frame.line or '').strip()}"
    return None


def _is_machinery(file: str) -> bool:
    python = file.startswith(_PYTHON) and "site-packages" not in file
    return python or file.startswith((_TORCH, _HERE, "<"))
