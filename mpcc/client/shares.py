"""Inputs into two shares, and two shares of the answer into numbers.

    a real number x is the integer X = round(x * scale) modulo 2^64; a uniform word s and X - s are its shares.

Each share alone is uniform: it says nothing about the input.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mpcc.errors import RangeError, ShapeError

from .model import Value

Floats = NDArray[np.float64]
Words = NDArray[np.uint64]
LARGEST = 2.0**20
"""Of an input: what the engine takes elsewhere too (`mpcc.calibration.arrays`); the ring holds it with room to spare."""


def encoded(values: Sequence[Floats], inputs: Sequence[Value]) -> Words:
    """The integers of a call, one input after another. ShapeError, RangeError name the input."""
    if len(values) != len(inputs):
        raise ShapeError(f"{len(values)} inputs for a model of {len(inputs)}")
    parts = []
    for value, wanted in zip(values, inputs, strict=True):
        where = f"input {wanted.name}"
        if value.shape != wanted.shape:
            raise ShapeError(f"shape {list(value.shape)}, the model takes {list(wanted.shape)}", where=where)
        if not np.isfinite(value).all():
            raise RangeError("NaN or infinite values", where=where)
        if value.size and float(np.abs(value).max()) > LARGEST:
            raise RangeError(f"values beyond {LARGEST:.0f}, which the model cannot compute with", where=where)
        parts.append(np.rint(value * wanted.scale).astype(np.int64).reshape(-1))
    words: Words = np.concatenate(parts).view(np.uint64)
    return words


def split(words: Words) -> tuple[bytes, bytes]:
    """Two shares as they travel (little-endian), from the operating system's generator; drawn anew in every call."""
    mask = np.frombuffer(secrets.token_bytes(8 * words.size), dtype="<u8")
    return mask.tobytes(), (words - mask).astype("<u8").tobytes()


def joined(first: bytes, second: bytes, outputs: Sequence[Value]) -> list[Floats]:
    """The answer from its two shares."""
    total = (np.frombuffer(first, dtype="<u8") + np.frombuffer(second, dtype="<u8")).astype(np.uint64).view(np.int64)
    found, start = [], 0
    for output in outputs:
        part = total[start : start + output.words].reshape(output.shape)
        found.append(part.astype(np.float64) / output.scale)
        start += output.words
    return found
