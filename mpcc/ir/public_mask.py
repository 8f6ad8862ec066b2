"""Public 0/1 masks as text, so that a program holds them: which keys an attention may see is architecture, not a secret.

    bits_of([[1, 0], [1, 1]])  ->  "b0"            row by row, the first element the highest bit, in hexadecimal
    row_weights((2, 2), "b0", 1)  ->  (256, 128)   2^k over how many a row sees, in integers: k = 8
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def bits_of(mask: Tensor) -> str:
    """The text of a mask of any shape; nonzero counts as 1."""
    return np.packbits(mask.reshape(-1).bool().numpy()).tobytes().hex()


@lru_cache(maxsize=256)
def mask_of(shape: tuple[int, ...], bits: str) -> Tensor:
    """The boolean mask of a text."""
    count = int(np.prod(shape))
    packed = np.frombuffer(bytes.fromhex(bits), dtype=np.uint8)
    return torch.from_numpy(np.unpackbits(packed, count=count).astype(bool)).reshape(shape)


def part_of(shape: Sequence[int], bits: str, dim: int, index: Sequence[int]) -> tuple[tuple[int, ...], str]:
    """The mask at the positions `index` of one dimension of what it is broadcast to."""
    if shape[dim] == 1:
        return tuple(shape), bits
    mask = mask_of(tuple(shape), bits).index_select(dim, torch.tensor(tuple(index)))
    return tuple(mask.shape), bits_of(mask)


def row_weights(shape: Sequence[int], bits: str, dim: int) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """(k, shape, weights): a public integer near 2^k / count for each row along `dim` of a mask.

    Off by less than half a percent, which cancels wherever a row stands in both numerator and denominator.
    """
    counts = mask_of(tuple(shape), bits).sum(dim, keepdim=True)
    k = 7 + int(counts.max()).bit_length()
    return k, tuple(counts.shape), tuple(round(2**k / count) for count in counts.reshape(-1).tolist())
