"""Matrix products modulo 2^64 by way of float64, which processors multiply far faster than 64-bit integers.

    x = sum_i x_i 2^(b i)                             limbs: integers of b bits, the highest one signed
    x y = sum_i (x_i y) 2^(b i)  mod 2^64             exact: b bits, and those that y's columns add, stay below 2^53

How large the integers are is looked at in every product: fixed point leaves most of them so small that x is one limb.
Where both are large the integers are multiplied.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

EXACT_BITS = 53
LEAST_BITS = 16
"""Shorter limbs are too many to be worth it."""


def limbs(x: Tensor, bits: int, count: int) -> list[Tensor]:
    """The limbs of a tensor as float64, the lowest first; the last one is what is above the others."""
    low = [(x >> (bits * i) & ((1 << bits) - 1)).double() for i in range(count - 1)]
    return [*low, (x >> (bits * (count - 1))).double()]


def size(x: Tensor) -> int:
    """The bits of the largest magnitude."""
    return max(abs(int(end)) for end in x.aminmax()).bit_length() if x.numel() else 0


def reach(y: Tensor) -> int:
    """The bits of the largest sum of magnitudes in a column: x y is below that many bits more than x."""
    return math.frexp(float(y.double().abs().sum(-2).max()))[1] if y.numel() else 0


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """x @ y modulo 2^64, of ring integers [..., n, k] and [..., k, m], or vectors [k]; also inside `torch.func.vmap`."""
    return _product(x, y, None)


def _product(x: Tensor, y: Tensor, known: tuple[Tensor, int] | None) -> Tensor:
    """x @ y. A vector is a matrix of one row or column meanwhile: under vmap its shape would not tell it from a batch."""
    row, column = x.dim() == 1, y.dim() == 1
    found: Tensor = _Matmul.apply(x[None] if row else x, y[:, None] if column else y, known)  # type: ignore[no-untyped-call]
    found = found.squeeze(-1) if column else found
    return found.squeeze(-1 if column else -2) if row else found


class Fixed:
    """A matrix of ring integers that many values are multiplied with: its size is looked at once."""

    def __init__(self, weight: Tensor) -> None:
        double = weight.double()
        self.straight = weight, (double, reach(weight))
        self.turned = weight.mT, (double.mT, reach(weight.mT))

    def product(self, kind: str, x: Tensor) -> Tensor:
        """bilinear(kind, x, W) modulo 2^64 of kind linear (x @ W.T), matmul (x @ W) or rmatmul (W @ x)."""
        right, known = self.straight if kind == "matmul" else self.turned
        if kind == "rmatmul":  # W @ x = (x.T @ W.T).T
            return _product(x, right, known) if x.dim() == 1 else _product(x.mT, right, known).mT.contiguous()
        return _product(x, right, known)


class _Matmul(torch.autograd.Function):
    """Sees all calls of a batch as one tensor, whose values it may look at."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, known: tuple[Tensor, int] | None) -> Tensor:
        """`known`: y in float64, and its reach."""
        x_bits = size(x)
        if known is None and size(y) > x_bits:  # the smaller one stays whole
            return _Matmul.forward(y.mT, x.mT, (x.mT.double(), reach(x.mT))).mT.contiguous()
        double, y_reach = known or (y.double(), reach(y))
        bits = EXACT_BITS - y_reach
        count = max(1, math.ceil((x_bits - bits) / max(bits, 1)) + 1)
        if bits < min(LEAST_BITS, x_bits):
            return torch.matmul(x, y)
        total: Tensor | None = None
        for i, limb in enumerate(limbs(x, bits, count)):
            part = torch.matmul(limb, double).long()
            total = part if total is None else total + (part << (bits * i))
        assert total is not None
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: integers have no gradient."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, y: Tensor, known: Any) -> tuple[Tensor, int]:
        """The batch as the first dimension of both, which are matrices."""
        rank = max(t.dim() - (dim is not None) for t, dim in zip((x, y), in_dims[:2], strict=True))
        x, y = (_leading(t, dim, rank) for t, dim in zip((x, y), in_dims[:2], strict=True))
        return _Matmul.apply(x, y, known), 0  # type: ignore[no-untyped-call]


def _leading(x: Tensor, dim: int | None, rank: int) -> Tensor:
    """The batch dimension at the front of `rank` others; without one as it is."""
    if dim is None:
        return x
    x = x.movedim(dim, 0)
    return x.reshape(x.shape[0], *[1] * (rank + 1 - x.dim()), *x.shape[1:])
