"""Arithmetic modulo 2^64 on int64 tensors: bilinear maps and bit packing, shared by the parties and the dealer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .limbs import matmul

Matmul = Callable[[Tensor, Tensor], Tensor]
Bilinear = Callable[[str, Tensor, Tensor, Sequence[Any]], Tensor]

RING_BITS = 64
BILINEAR = ("mul", "matmul", "rmatmul", "linear", "conv")
"""The bilinear maps that `bilinear` knows by name."""


def wrap(value: int) -> int:
    """A Python integer as the signed 64-bit representative of its residue."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def bilinear(kind: str, x: Tensor, y: Tensor, attributes: Sequence[Any] = (), *, times: Matmul = matmul) -> Tensor:
    """The bilinear map `kind`: mul, matmul, linear (x @ y.T), rmatmul (y @ x), conv; `times` multiplies matrices.

    The attributes of conv: stride, padding, dilation, groups.
    """
    if kind == "mul":
        return x * y
    if kind == "matmul":
        return times(x, y)
    if kind == "rmatmul":
        return times(y, x)
    if kind == "linear":
        return times(x, y.transpose(-1, -2))
    if kind == "conv":
        return convolution(x, y, *attributes, times=times)
    raise ValueError(kind)


def convolution(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int, *,
    times: Matmul = matmul,
) -> Tensor:  # fmt: skip
    """Convolution of int64 tensors (1 to 3 spatial dimensions) as one matrix product over unfolded patches.

    x [batch, in, *space], weight [out, in / groups, *kernel] -> [batch, out, *space'].
    """
    rank = weight.dim() - 2
    if any(padding):
        x = functional.pad(x, [p for amount in reversed(padding) for p in (amount, amount)])
    kernel = weight.shape[2:]
    batch, channels = x.shape[:2]
    space = [(x.shape[2 + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(rank)]
    x = x.contiguous()
    strides = x.stride()
    # [batch, groups, in / groups, *kernel, *space']
    patches = x.as_strided(
        (batch, groups, channels // groups, *kernel, *space),
        (
            strides[0],
            strides[1] * (channels // groups),
            strides[1],
            *(strides[2 + i] * dilation[i] for i in range(rank)),
            *(strides[2 + i] * stride[i] for i in range(rank)),
        ),
    )
    inner = weight[0].numel()
    columns = patches.reshape(batch, groups, inner, -1)
    rows = weight.reshape(groups, weight.shape[0] // groups, inner)
    return times(rows, columns).reshape(batch, weight.shape[0], *space)


def words(bits: int) -> int:
    """How many 64-bit words hold `bits` packed bits."""
    return -(-bits // 64)


def pack(bits: Tensor) -> Tensor:
    """0/1 values [..., n] -> int64 words [..., words(n)]."""
    if bits.device.type != "cpu":
        return pack_anywhere(bits)
    n = bits.shape[-1]
    packed = np.packbits(bits.numpy().astype(np.uint8, copy=False), axis=-1)
    missing = words(n) * 8 - packed.shape[-1]
    if missing:
        packed = np.concatenate([packed, np.zeros((*packed.shape[:-1], missing), np.uint8)], axis=-1)
    return torch.from_numpy(packed.view(np.int64))


def unpack(packed: Tensor, n: int) -> Tensor:
    """int64 words [..., words(n)] -> int64 0/1 values [..., n]."""
    if packed.device.type != "cpu":
        return unpack_anywhere(packed, n)
    bits = np.unpackbits(packed.contiguous().numpy().view(np.uint8), axis=-1)[..., :n]
    return torch.from_numpy(bits.astype(np.int64))


# ---- the same in torch alone, for devices that numpy does not reach --------------------------------------------------------


def _places(device: torch.device) -> Tensor:
    """Where the bits of a word stand: the first is the highest of the lowest byte."""
    place = torch.arange(RING_BITS, device=device)
    return place - place % 8 + 7 - place % 8


def pack_anywhere(bits: Tensor) -> Tensor:
    """`pack` of bits on any device."""
    n = bits.shape[-1]
    padded = functional.pad(bits.to(torch.int64), (0, words(n) * RING_BITS - n))
    return (padded.reshape(*bits.shape[:-1], words(n), RING_BITS) << _places(bits.device)).sum(-1)


def unpack_anywhere(packed: Tensor, n: int) -> Tensor:
    """`unpack` of words on any device."""
    bits = packed[..., None] >> _places(packed.device) & 1
    return bits.reshape(*packed.shape[:-1], -1)[..., :n].contiguous()
