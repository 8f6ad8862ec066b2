"""NumPy files as inputs: headers before contents, nothing unpickled, and no number that a private program cannot hold.

    read_arrays(Path("images.npy"))     {"": array}
    read_arrays(Path("inputs.npz"))     {"image": array, "mask": array}
    as_input(array, "images.npy")       float32, checked
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from mpcc.errors import RangeError, ShapeError, UsageError

Array = np.ndarray[Any, Any]

# Numbers of one file: 1,783 images of 3 x 224 x 224. Beyond these a calibration learns nothing more.
MOST_NUMBERS = 1 << 28
LONGEST_HEADER = 4096
# An input x a weight has 2 x 16 bits of fraction, a sum of 2^11 of them 11 more, and one bit is the sign: of the ring's 64
# bits 20 are left for the input's whole part.
LARGEST_INPUT = 2.0**20
SAVE = "Write it with numpy.save(path, array), or numpy.savez(path, name=array, ...)."


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of a .npy file (under the empty name) or a .npz file. UsageError: what it is instead, or too large."""
    if not path.is_file():
        what = "this is not a regular file" if path.exists() else "there is no such file"
        raise UsageError(what, where=str(path))
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                return _archive(path)
            file.seek(0)
            return {"": _array(file, path.stat().st_size)}
    except UsageError as error:
        raise UsageError(error.what, where=str(path), hint=error.hint or SAVE) from None


def _archive(path: Path) -> dict[str, Array]:
    found: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > 4 * MOST_NUMBERS:
                raise UsageError(f"its arrays have more than {4 * MOST_NUMBERS:,} bytes together")
            for member in members:
                with archive.open(member) as file:
                    found[member.filename.removesuffix(".npy")] = _array(file, member.file_size)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, EOFError, RuntimeError, ValueError) as error:
        raise UsageError(f"it is not a readable .npz file: {error}") from None
    return found


def _array(file: IO[bytes], size: int) -> Array:
    """One array, whose header is compared with the `size` of its file before anything is read."""
    dtype, by_columns, shape = _header(file)
    if dtype.kind not in "fiub" or not 0 < dtype.itemsize <= 8:
        raise UsageError(f"it holds {str(dtype)[:50]}, not numbers")
    count = math.prod(shape)
    if count > MOST_NUMBERS:
        raise UsageError(f"it holds {count:,} numbers, more than {MOST_NUMBERS:,}", hint="Give a part of it.")
    if count * dtype.itemsize > size:
        raise UsageError(f"it ends before its {count:,} numbers do")
    content = file.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise UsageError(f"it ends before its {count:,} numbers do")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")


# The header as every version of NumPy writes it for plain numbers. It looks like Python, and is not evaluated.
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[a-zA-Z]\d{0,4})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\), \}\s*\Z"
)


def _header(file: IO[bytes]) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """(type, by columns, shape). Source of the format: numpy/lib/format.py."""
    start = file.read(8)
    width = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}.get(start, 0)
    length = int.from_bytes(file.read(width), "little")
    match = _HEADER.match(file.read(min(length, LONGEST_HEADER))) if width else None
    if match is None:
        raise UsageError("it is not a readable NumPy file of plain numbers")
    sizes = tuple(int(size) for size in match[3].split(b",") if size.strip())
    try:
        return np.dtype(match[1].decode()), match[2] == b"True", sizes
    except TypeError:
        raise UsageError(f"it holds {match[1].decode()!r}, not numbers") from None


def as_input(array: Array, where: str) -> Tensor:
    """float32 numbers that an input of a private program can be. RangeError for others, ShapeError for none."""
    if array.dtype.kind not in "fiub":
        raise UsageError(f"an array of {array.dtype} holds no numbers", where=where)
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, which is refused
        return checked(torch.from_numpy(np.array(array, dtype=np.float32, order="C")), where)


def checked(values: Tensor, where: str) -> Tensor:
    """`values`, if all of them are finite, some are there, and none is larger than the ring holds."""
    if values.numel() == 0:
        raise ShapeError(f"there are no numbers: the shape is {tuple(values.shape)}", where=where)
    if values.dtype == torch.bool:
        return values
    largest = float((values if values.is_floating_point() else values.double()).abs().max())  # the least integer has no abs
    if not math.isfinite(largest):
        count = int((~torch.isfinite(values)).sum())
        raise RangeError(f"{count:,} of its {values.numel():,} numbers are infinite or NaN", where=where)
    if largest > LARGEST_INPUT:
        raise RangeError(
            f"the number {largest:.3g} is beyond the fixed point of a private program, which holds inputs up to"
            f" {LARGEST_INPUT:,.0f}",
            where=where,
            hint="Normalise the inputs as for the model in PyTorch.",
        )
    return values
