"""Inputs and outputs of the command line as .npy files: read without pickle, checked, written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpcc.errors import ModelFileError, RangeError, ShapeError, UsageError

if TYPE_CHECKING:
    from torch import Tensor


def read(path: Path, shape: Sequence[int], batch: bool = False) -> Tensor:
    """The float32 tensor in a .npy file, of exactly that shape; with `batch`, any multiple of its first dimension."""
    import torch

    array = load(path)
    wanted = tuple(shape)
    fits = array.shape == wanted
    if batch and array.ndim == len(wanted) and array.shape[1:] == wanted[1:]:
        fits = array.shape[0] > 0 and array.shape[0] % wanted[0] == 0
    if not fits:
        raise ShapeError(
            f"the array has shape {array.shape}, the program takes {wanted}",
            where=str(path),
            hint=f"reshape it, e.g. x[None] for a batch of one, or compile the model for {array.shape}",
        )
    if array.dtype.kind not in "fiub":
        raise ShapeError(f"the array has type {array.dtype}, the program takes numbers (float32)", where=str(path))
    values = torch.from_numpy(array.astype(np.float32))
    if not torch.isfinite(values).all():
        raise RangeError("the array holds infinite values or NaN", where=str(path))
    return values


def load(path: Path) -> np.ndarray[Any, Any]:
    """A .npy file; never with pickle."""
    if not path.is_file():
        raise ModelFileError("there is no such file", where=str(path))
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UsageError(
            f"it cannot be read as .npy: {error}", where=str(path), hint="write it with numpy.save(path, array)"
        ) from None
    if not isinstance(found, np.ndarray):
        raise UsageError("this is an archive of several arrays", where=str(path), hint="give one .npy file an input")
    return found


def write(path: Path, outputs: Sequence[Tensor]) -> None:
    """One output as .npy, several as .npz."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            if len(outputs) == 1:
                np.save(file, outputs[0].detach().numpy(), allow_pickle=False)
            else:
                np.savez(file, **{f"output_{index}": value.detach().numpy() for index, value in enumerate(outputs)})
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
