"""Values into messages and out of them: of a value opened modulo 2^k only the low k bits travel (`program.layout`)."""

from __future__ import annotations

import torch
from torch import Tensor

from mpcc.program.layout import Place, Plane

TYPES = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}


def write(message: Tensor, place: Place, share: Tensor) -> None:
    """Put the low bits of the share's words into the message."""
    values = share.contiguous().view(-1)
    for plane in place.planes:
        _of_message(message, plane).copy_(_of_values(values, plane))


def read(message: Tensor, place: Place) -> Tensor:
    """The words [n] that the message holds, zero above their low bits."""
    if len(place.planes) == 1 and place.planes[0].size == 8:
        return _of_message(message, place.planes[0])
    values = torch.zeros(place.planes[0].count, dtype=torch.int64)
    for plane in place.planes:
        _of_values(values, plane).copy_(_of_message(message, plane))
    return values


def _of_message(message: Tensor, plane: Plane) -> Tensor:
    start = plane.start // plane.size
    return message.view(TYPES[plane.size])[start : start + plane.count]


def _of_values(values: Tensor, plane: Plane) -> Tensor:
    return values.view(TYPES[plane.size])[plane.offset // plane.size :: 8 // plane.size]
