"""Inputs and outputs of the command line as .npy files: read without pickle, checked, written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mpcc import files
from mpcc.errors import ShapeError, UsageError

if TYPE_CHECKING:
    from torch import Tensor


def calls(paths: Sequence[Path], shapes: Sequence[Sequence[int]]) -> list[tuple[Tensor, ...]]:
    """The inferences that these files ask for: one file an input of the program, a longer first dimension is cut."""
    if len(paths) != len(shapes):
        wanted = ", ".join(str(tuple(shape)) for shape in shapes)
        raise ShapeError(f"the program takes {len(shapes)} input(s) of shape {wanted}; {len(paths)} were given")
    cut = [read(path, shape) for path, shape in zip(paths, shapes, strict=True)]
    lengths = {len(pieces) for pieces in cut}
    if len(lengths) > 1:
        raise ShapeError("the inputs hold different numbers of inferences: " + ", ".join(str(len(p)) for p in cut))
    return list(zip(*cut, strict=True))


def read(path: Path, shape: Sequence[int]) -> list[Tensor]:
    """The float32 tensors of `shape` in a .npy file: one, or several behind each other along the first dimension."""
    from mpcc.calibration.arrays import as_input, read_arrays

    arrays = read_arrays(path)
    if list(arrays) != [""]:
        raise UsageError("this is an archive of several arrays", where=str(path), hint="Give one .npy file for each input.")
    array, wanted = arrays[""], tuple(shape)
    more = len(wanted) > 0 and array.ndim == len(wanted) and array.shape[1:] == wanted[1:] and array.shape[0] > 0
    if array.shape != wanted and not (more and array.shape[0] % wanted[0] == 0):
        raise ShapeError(
            f"the array has shape {array.shape}, the program takes {wanted}",
            where=str(path),
            hint="Reshape it (x[None] adds a batch of one), or compile the model for this shape.",
        )
    values = as_input(array, str(path))
    return [values[start : start + wanted[0]] for start in range(0, len(values), wanted[0])] if wanted else [values]


def write(path: Path, outputs: Sequence[Tensor]) -> None:
    """One output as .npy, several as .npz."""
    made = io.BytesIO()  # numpy hides that a disk is full when it writes into a file itself
    if len(outputs) == 1:
        np.save(made, outputs[0].detach().numpy(), allow_pickle=False)
    else:
        np.savez(made, **{f"output_{index}": value.detach().numpy() for index, value in enumerate(outputs)})
    files.write(path, made.getbuffer(), private=True)
