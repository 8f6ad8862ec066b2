"""Where plain values become shares and shares become plain values: CrypTen's encoder and tensor types.

float -> FixedPointEncoder -> ring integers = the client's share (the server's is 0)
totals of both shares -> float
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.errors import PartyError, ShapeError
from mpcc.ir.info import scale_of
from mpcc.program.program import Program, encode_tensor

from .shim import import_crypten


def join(rank: int, rendezvous: str, interface: str) -> Any:
    """Make this process a CrypTen party. CrypTen would silently run alone if one of these were missing: all are set.

    CrypTen's own link (gloo) is plain TCP: nothing secret goes over it.
    """
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE="2",
        RENDEZVOUS=rendezvous,
        DISTRIBUTED_BACKEND="gloo",
        GLOO_SOCKET_IFNAME=interface,
    )
    crypten = import_crypten()
    crypten.init()
    check(rank)
    return crypten


def check(rank: int | None = None) -> int:
    """This process's rank among two CrypTen parties. PartyError when CrypTen has not joined both."""
    crypten = import_crypten()
    if not crypten.is_initialized():
        raise PartyError("crypten.init() has not been called", where="CrypTen")
    link = crypten.communicator.get()
    if link.get_world_size() != 2 or (rank is not None and link.get_rank() != rank):
        raise PartyError(
            f"CrypTen is rank {link.get_rank()} of {link.get_world_size()}, not one of two parties",
            where="CrypTen",
            hint="Set RANK, WORLD_SIZE=2, RENDEZVOUS, DISTRIBUTED_BACKEND=gloo and GLOO_SOCKET_IFNAME for both.",
        )
    return int(link.get_rank())


def encode(value: Tensor, scale: float) -> Tensor:
    """Ring integers round(value * scale), by CrypTen's encoder where the scale is a power of two."""
    bits = math.log2(scale)
    if bits != int(bits) or bits < 0:
        return encode_tensor(value, scale)
    encoder = import_crypten().encoder.FixedPointEncoder(precision_bits=int(bits))
    # CrypTen cuts towards zero; rounded beforehand, its product with the scale is exact.
    encoded: Tensor = encoder.encode((value.detach().double() * scale).round() / scale)
    return encoded


def encode_inputs(program: Program, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The client's shares of its inputs. ShapeError when they do not fit the program."""
    nodes = program.inputs()
    check_shapes(nodes, inputs)
    return [encode(value, scale_of(node)) for node, value in zip(nodes, inputs, strict=True)]


def check_shapes(nodes: Sequence[fx.Node], inputs: Sequence[Tensor]) -> None:
    if len(nodes) != len(inputs):
        raise ShapeError(f"the program takes {len(nodes)} inputs, {len(inputs)} were given")
    for node, value in zip(nodes, inputs, strict=True):
        wanted = tuple(node.meta["val"].shape)
        if tuple(value.shape) != wanted:
            raise ShapeError(f"the input has shape {tuple(value.shape)}, the program takes {wanted}", where=node.name)
        if not torch.isfinite(value).all():
            raise ShapeError("the input holds values that are not finite", where=node.name)
