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

    from mpcc.calibration.arrays import Array
    from mpcc.runtime.executable import Executable


def calls(paths: Sequence[Path], shapes: Sequence[Sequence[int]], names: Sequence[str] = ()) -> list[tuple[Tensor, ...]]:
    """The inferences that these files ask for: one file an input of the program, a longer first dimension is cut.

    One .npz file may hold all inputs, by their `names` or by shapes of which each fits one array only.
    """
    if len(paths) == 1 and paths[0].suffix == ".npz":
        found = _archive(paths[0], shapes, names)
        return _zipped([cut(array, shape, str(paths[0])) for array, shape in zip(found, shapes, strict=True)])
    if len(paths) != len(shapes):
        wanted = ", ".join(str(tuple(shape)) for shape in shapes)
        raise ShapeError(f"the program takes {len(shapes)} input(s) of shape {wanted}; {len(paths)} were given")
    return _zipped([read(path, shape) for path, shape in zip(paths, shapes, strict=True)])


def _zipped(columns: Sequence[Sequence[Tensor]]) -> list[tuple[Tensor, ...]]:
    if len({len(pieces) for pieces in columns}) > 1:
        raise ShapeError("the inputs hold different numbers of inferences: " + ", ".join(str(len(p)) for p in columns))
    return list(zip(*columns, strict=True))


def _archive(path: Path, shapes: Sequence[Sequence[int]], names: Sequence[str]) -> list[Array]:
    """The array of each input; the only one of a file for a program of one input, whatever its name and shape are."""
    from mpcc.calibration.arrays import read_arrays
    from mpcc.calibration.inputs import chosen_arrays

    arrays = read_arrays(path)
    if len(arrays) == len(shapes) == 1:
        return list(arrays.values())
    return chosen_arrays(arrays, [tuple(shape) for shape in shapes], names, str(path))


def read(path: Path, shape: Sequence[int]) -> list[Tensor]:
    """The float32 tensors of `shape` in a .npy file: one, or several behind each other along the first dimension."""
    from mpcc.calibration.arrays import read_arrays

    arrays = read_arrays(path)
    if list(arrays) != [""]:
        hint = "Give one .npy file for each input, or one .npz file, by itself, that holds them all."
        raise UsageError("this is an archive of arrays", where=str(path), hint=hint)
    return cut(arrays[""], shape, str(path))


def cut(array: Array, shape: Sequence[int], where: str) -> list[Tensor]:
    """An array as float32 tensors of `shape`: those of [calls, *shape], or behind each other along the first dimension.

    ShapeError where it does not fit.
    """
    from mpcc.calibration.arrays import as_input

    wanted = tuple(shape)
    if wanted and len(array) and array.shape[1:] == wanted:
        return list(as_input(array, where))
    more = len(wanted) > 0 and array.ndim == len(wanted) and array.shape[1:] == wanted[1:] and array.shape[0] > 0
    if array.shape != wanted and not (more and array.shape[0] % wanted[0] == 0):
        raise ShapeError(
            f"the array has shape {array.shape}, the program takes {wanted}",
            where=where,
            hint="Reshape it (x[None] adds a batch of one), or compile the model for this shape.",
        )
    values = as_input(array, where)
    return [values[start : start + wanted[0]] for start in range(0, len(values), wanted[0])] if wanted else [values]


def example(executable: Executable) -> tuple[Tensor, ...]:
    """Numbers within the range of calibration, the same every time: they show that a bundle runs, and mean nothing."""
    import torch

    from mpcc.calibration.guard import LARGEST, SMALLEST

    shapes, guard = executable.input_shapes, executable.guard
    if executable.local is not None or guard is None:  # what the public part takes may be tokens, of which 0 is always one
        return tuple(torch.zeros(shape) for shape in shapes)
    ends = [(seen.statistics[SMALLEST][0], seen.statistics[LARGEST][1]) for seen in guard.inputs]
    draw = torch.Generator().manual_seed(0)
    return tuple(
        torch.empty(shape).uniform_(low, high, generator=draw) for shape, (low, high) in zip(shapes, ends, strict=True)
    )


def write(path: Path, outputs: Sequence[Tensor]) -> None:
    """One output as .npy, several as .npz."""
    made = io.BytesIO()  # numpy hides that a disk is full when it writes into a file itself
    if len(outputs) == 1:
        np.save(made, outputs[0].detach().numpy(), allow_pickle=False)
    else:
        np.savez(made, **{f"output_{index}": value.detach().numpy() for index, value in enumerate(outputs)})
    files.write(path, made.getbuffer(), private=True)
