"""The classes of calibration inputs, where they are known: then accuracy is measured, and not only what changes.

    load_labels("labels.npy", None, calls, batch, classes)         one whole number an image, in the order of the inputs
    load_labels("data.npz", None, calls, batch, classes)           its array `labels`, or the only one of whole numbers
    load_labels("folders", "photos/", calls, batch, classes)       photos/CLASS/image.png; the classes in the order of their names
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpcc.errors import ShapeError, UsageError

from .arrays import read_arrays
from .inputs import IMAGES, MOST_IMAGES, evenly

FOLDERS, NAME = "folders", "labels"
HINT = f"Give a .npy or .npz file with a whole number for each input, or `{FOLDERS}` for an image folder of one folder a class."


def load_labels(source: Any, calibration: Any, calls: int, batch: int, classes: int) -> Tensor:
    """Labels [calls, batch] of so many calls. UsageError or ShapeError where they are none, or of other inputs."""
    where = str(source) if isinstance(source, str | Path) else "labels"
    if where == FOLDERS:
        found = _of_folders(calibration)
    elif isinstance(source, str | Path):
        found = _of_file(Path(source))
    else:
        found = torch.as_tensor(np.asarray(source)).reshape(-1)
    if len(found) // batch != calls:
        raise ShapeError(f"{len(found)} labels for {calls * batch} inputs", where=where, hint=HINT)
    whole = found.long()
    if not bool((whole == found).all()):
        raise UsageError("labels are whole numbers", where=where, hint=HINT)
    if int(whole.min()) < 0 or int(whole.max()) >= classes:
        what = f"labels from {int(whole.min())} to {int(whole.max())}, but the model has the classes 0 to {classes - 1}"
        raise UsageError(what, where=where, hint="Number the classes as the outputs of the model are, from 0.")
    return whole[: calls * batch].reshape(calls, batch)


def _of_file(path: Path) -> Tensor:
    if path.suffix not in (".npy", ".npz"):
        raise UsageError("labels are read from .npy and .npz files", where=str(path), hint=HINT)
    arrays = read_arrays(path)
    rows = {name: array for name, array in arrays.items() if array.ndim == 1 and array.dtype.kind in "iu"}
    if NAME not in arrays and len(rows) != 1:
        seen = ", ".join(f"{name or 'one array'} {array.shape}" for name, array in arrays.items())
        raise UsageError(f"which of these are the labels? {seen}", where=str(path), hint=f"Name the array `{NAME}`.")
    return torch.as_tensor((arrays[NAME] if NAME in arrays else next(iter(rows.values()))).astype(np.float64)).reshape(-1)


def _of_folders(calibration: Any) -> Tensor:
    folder = Path(calibration) if isinstance(calibration, str | Path) else None
    if folder is None or not folder.is_dir():
        raise UsageError("classes by folder need an image folder as calibration", where=f"labels {FOLDERS}", hint=HINT)
    files = evenly(sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGES), MOST_IMAGES)
    names = sorted(one.name for one in folder.iterdir() if one.is_dir())
    own = [file.relative_to(folder).parts for file in files]
    loose = next((parts for parts in own if len(parts) < 2), None)
    if loose is not None:
        raise UsageError(f"{loose[0]} is in no folder of a class", where=str(folder), hint=HINT)
    return torch.tensor([names.index(parts[0]) for parts in own])
