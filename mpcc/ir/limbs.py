"""Products with a fixed matrix modulo 2^64 by way of float64, which processors multiply far faster than 64-bit integers.

    x = sum_i x_i 2^(b i)                             limbs: integers of b bits, the highest one signed
    x W = sum_i (x_i W) 2^(b i)  mod 2^64             exact: b bits, those of W and of the sum stay below 2^53
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EXACT_BITS = 53
LEAST_BITS = 16
"""Shorter limbs are too many to be worth it."""


def limbs(x: Tensor, bits: int) -> list[Tensor]:
    """The limbs of a tensor as float64, the lowest first."""
    count = -(-64 // bits)
    low = [(x >> (bits * i) & ((1 << bits) - 1)).double() for i in range(count - 1)]
    return [*low, (x >> (bits * (count - 1))).double()]


class Fixed:
    """A matrix of ring integers that many values are multiplied with: its size is looked at once."""

    def __init__(self, weight: Tensor) -> None:
        self.weight, self.double = weight, weight.double()
        largest = max((abs(int(end)) for end in weight.aminmax()), default=0) if weight.numel() else 0
        self.bits = largest.bit_length()

    def product(self, kind: str, x: Tensor) -> Tensor:
        """bilinear(kind, x, W) modulo 2^64 of kind linear (x @ W.T), matmul (x @ W) or rmatmul (W @ x)."""
        left = kind == "rmatmul"
        weight, double = (t.transpose(-1, -2) if kind == "linear" else t for t in (self.weight, self.double))
        bits = EXACT_BITS - self.bits - math.ceil(math.log2(max(x.shape[-2 if left else -1], 1)))
        if bits < LEAST_BITS:
            return torch.matmul(weight, x) if left else torch.matmul(x, weight)
        total: Tensor | None = None
        for i, limb in enumerate(limbs(x, bits)):
            part = (torch.matmul(double, limb) if left else torch.matmul(limb, double)).long()
            total = part if total is None else total + (part << (bits * i))
        assert total is not None
        return total
