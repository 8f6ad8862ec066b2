"""Values into messages and out of them: of a value opened modulo 2^k only the low k bits travel (`program.layout`).

In C (`native/planes.c`) where it was built, else in numpy: the same bits.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpcc.program.layout import Place, Plane

from ..native.library import library

Array = np.ndarray[Any, Any]
TYPES: dict[int, Any] = {64: np.int64, 32: np.int32, 16: np.int16, 8: np.uint8}
BYTE = 8


def write(message: Tensor, place: Place, share: Tensor) -> None:
    """Put the low bits of the share's words into the message, both contiguous int64."""
    values = share.contiguous().view(-1)
    compiled = library()
    if compiled is None:
        write_plainly(message, place, values)
    else:
        compiled.planes_write(_at(values), *_planes(place), _at(message))


def read(message: Tensor, place: Place) -> Tensor:
    """The words [n] that the message holds, zero above their low bits."""
    first = place.planes[0]
    if first.bits == 64:
        start = first.start // 8
        return message[start : start + first.count]
    compiled = library()
    if compiled is None:
        return read_plainly(message, place)
    made = torch.empty(first.count, dtype=torch.int64)
    compiled.planes_read(_at(message), *_planes(place), _at(made))
    return made


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


@lru_cache(1 << 14)
def _planes(place: Place) -> tuple[ctypes.c_long, ctypes.c_long, ctypes.Array[ctypes.c_int64]]:
    """Count, planes, and bits, offset and start of each, as planes.c takes them."""
    numbers = [number for plane in place.planes for number in (plane.bits, plane.offset, plane.start)]
    return ctypes.c_long(place.planes[0].count), ctypes.c_long(len(place.planes)), (ctypes.c_int64 * len(numbers))(*numbers)


def write_plainly(message: Tensor, place: Place, values: Tensor) -> None:
    """`write` in numpy; `values`: a vector."""
    words, source = message.numpy(), values.numpy()
    for plane in place.planes:
        if plane.bits < BYTE:
            _pack(_bytes(words, plane), _shifted(source, plane), plane.bits)
        else:
            _of_message(words, plane)[:] = _of_values(source, plane)


def read_plainly(message: Tensor, place: Place) -> Tensor:
    """`read` in numpy, of less than whole words."""
    words, made = message.numpy(), message.new_zeros(place.planes[0].count)
    values = made.numpy()
    for plane in place.planes:
        if plane.bits < BYTE:
            bits = _unpacked(_bytes(words, plane), plane)
            bits <<= plane.offset % BYTE
            _of_values(values, plane)[:] |= bits
        else:
            _of_values(values, plane)[:] = _of_message(words, plane)
    return made


def _of_message(words: Array, plane: Plane) -> Array:
    start = plane.start * BYTE // plane.bits
    found: Array = words.view(TYPES[plane.bits])[start : start + plane.count]
    return found


def _of_values(values: Array, plane: Plane) -> Array:
    """The pieces of a plane in the words; of less than a byte, the bytes that hold them."""
    bits = max(BYTE, plane.bits)
    found: Array = values.view(TYPES[bits])[plane.offset // bits :: 64 // bits]
    return found


# ---- planes of less than a byte: pieces of one value never cross a byte, as the planes before are whole bytes ----------


def _bytes(words: Array, plane: Plane) -> Array:
    return words.view(np.uint8)[plane.start : plane.start + plane.bytes]


def _shifted(values: Array, plane: Plane) -> Array:
    return _of_values(values, plane) >> np.uint8(plane.offset % BYTE) & np.uint8((1 << plane.bits) - 1)


def _pack(packed: Array, pieces: Array, bits: int) -> None:
    if bits == 1:
        packed[:] = np.packbits(pieces, bitorder="little")
        return
    each = BYTE // bits
    packed[:] = 0
    for place in range(each):
        part = pieces[place::each]
        packed[: len(part)] |= part << np.uint8(place * bits)


def _unpacked(packed: Array, plane: Plane) -> Array:
    if plane.bits == 1:
        return np.unpackbits(packed, count=plane.count, bitorder="little")
    each = BYTE // plane.bits
    pieces = np.empty(len(packed) * each, np.uint8)
    for place in range(each):
        pieces[place::each] = packed >> np.uint8(place * plane.bits) & np.uint8((1 << plane.bits) - 1)
    return pieces[: plane.count]
