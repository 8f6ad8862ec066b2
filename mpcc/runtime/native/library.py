"""The compiled file of spline gates and bit planes, where there is one that this processor can run.

    library()      -> the functions of gates.c and planes.c, or None
    description()  -> "C, AES on vectors" or "numpy (gates.c was not compiled ...)": what `mpcc --version` says

The file is built when mpcc is installed (setup.py); without a compiler everything works, more slowly.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

NAMES = "_gates*.so"
LEVELS = {1: "C, AES instructions", 2: "C, AES on vectors"}
NOT_BUILT = "gates.c was not compiled when mpcc was installed"


@cache
def library() -> ctypes.CDLL | None:
    """The file's functions; None where it was not built, or for another kind of processor."""
    return _found()[0]


def description() -> str:
    """Which form of the gates runs here, and why not the faster one."""
    return _found()[1]


@cache
def _found() -> tuple[ctypes.CDLL | None, str]:
    why = NOT_BUILT
    for path in sorted(Path(__file__).parent.glob(NAMES)):
        try:
            loaded = ctypes.CDLL(str(path))
            level = loaded.gates_supported() if loaded.planes_read else 0  # AttributeError: built of earlier files
        except (OSError, AttributeError) as error:
            why = f"{path.name} cannot be loaded: {error}"
            continue
        if level in LEVELS:
            return loaded, LEVELS[level]
        why = "this processor has no AES instructions"
    return None, f"numpy ({why})"
