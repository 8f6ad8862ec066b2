"""Matrix products modulo 2^64 by way of float64, which most processors multiply far faster than 64-bit integers.

    x = sum_i x_i 2^(a i),  y = sum_j y_j 2^(b j)     limbs: integers of a and b bits, the highest ones signed
    x y = sum_ij (x_i y_j) 2^(a i + b j)  mod 2^64    exact: a + b bits, and those that a sum adds, stay below 2^53

What lies above 2^64 is left out: two whole words are three limbs each, and six of their nine products count. How large the
integers are is looked at in every product; a weight of a layer is one limb. Long sums are cut into pieces, so that limbs need
not become shorter. Whether all of it pays depends on the processor (those with 64-bit multiplications in vectors do well
without), so both ways are timed once a process, and the faster one is taken: the integers are the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

EXACT_BITS = 53
WORD_BITS = 64
MOST_LIMBS = 4
"""Of one operand: with pieces of LONGEST terms, three hold a word."""
LONGEST = 512
"""Terms of a sum that are added up as float64: 22 + 22 + 9 bits are 53, so that a word is three limbs of 22 bits."""
LEAST_BITS = 16
"""Of a limb: shorter ones are too many to be worth it."""
LEAST_WORK = 1 << 15
"""Multiply-adds below which a product takes no longer than looking at its operands (some 10 us)."""


@dataclass(frozen=True)
class Speed:
    """Seconds of one multiply-add of integers and of float64, of making one element of a limb, and of a call of torch."""

    integer: float
    real: float
    made: float
    call: float = 2e-6


@dataclass(frozen=True)
class Plan:
    """How x and y are cut: bits of a limb of each, and how many limbs."""

    x_bits: int
    y_bits: int
    x_count: int
    y_count: int

    def pairs(self) -> Iterator[tuple[int, int]]:
        """The limbs whose products lie below 2^64."""
        for i in range(self.x_count):
            for j in range(self.y_count):
                if i * self.x_bits + j * self.y_bits < WORD_BITS:
                    yield i, j


def size(x: Tensor) -> int:
    """The bits of the largest magnitude."""
    x = x.mT if x.dim() > 1 and not x.is_contiguous() else x  # four times faster where it is a transpose
    return max(abs(int(end)) for end in x.aminmax()).bit_length() if x.numel() else 0


def planned(x_size: int, y_size: int, terms: int) -> Plan:
    """The cut with the fewest products, for integers below 2^x_size and 2^y_size and sums of so many terms."""
    room = EXACT_BITS - max(0, terms - 1).bit_length()
    plans = []
    for y_count in range(1, MOST_LIMBS + 1):
        y_bits = max(1, math.ceil(y_size / y_count))
        if y_bits < room:
            x_bits = room - y_bits
            plans.append(Plan(x_bits, y_bits, max(1, math.ceil(x_size / x_bits)), y_count))
    return min(plans, key=lambda plan: (len(list(plan.pairs())), plan.x_count + plan.y_count))


def limbs(x: Tensor, bits: int, count: int) -> list[Tensor]:
    """The limbs of a tensor as float64, the lowest first; the last one is what is above the others."""
    low = [(x >> (bits * i) & ((1 << bits) - 1)).double() for i in range(count - 1)]
    return [*low, (x >> (bits * (count - 1))).double()]


def exact(x: Tensor, y: Tensor) -> Tensor:
    """x @ y modulo 2^64 by way of float64, of ring integers [..., n, k] and [..., k, m]."""
    total: Tensor | None = None
    for first in range(0, max(1, x.shape[-1]), LONGEST):
        part = _piece(x[..., first : first + LONGEST], y[..., first : first + LONGEST, :])
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def _piece(x: Tensor, y: Tensor) -> Tensor:
    plan = planned(size(x), size(y), x.shape[-1])
    return _multiplied(limbs(x, plan.x_bits, plan.x_count), limbs(y, plan.y_bits, plan.y_count), plan)


def _multiplied(xs: list[Tensor], ys: list[Tensor], plan: Plan) -> Tensor:
    total: Tensor | None = None
    for i, j in plan.pairs():
        part, shift = torch.matmul(xs[i], ys[j]).long(), i * plan.x_bits + j * plan.y_bits
        if shift:
            part <<= shift
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


# ---- which way ---------------------------------------------------------------------------------------------------------


@cache
def speed() -> Speed:
    """This machine's, by one thread: of a layer of a small Vision Transformer. Some 10 ms, once a process."""
    x, y = torch.arange(64 * 256).reshape(64, 256), torch.arange(256 * 256).reshape(256, 256)
    real_x, real_y = x.double(), y.double()
    work = 64 * 256 * 256
    return Speed(
        _seconds(lambda: torch.matmul(x, y)) / work,
        _seconds(lambda: torch.matmul(real_x, real_y)) / work,
        _seconds(lambda: (y >> 22 & 0x3FFFFF).double()) / y.numel(),
    )


def _seconds(function: Callable[[], Tensor], repeats: int = 3) -> float:
    """The least of some runs: what else the machine does only adds."""
    took = []
    for _ in range(repeats + 1):  # the first makes ready
        start = time.perf_counter()
        function()
        took.append(time.perf_counter() - start)
    return min(took)


def has_integers(x: Tensor) -> bool:
    """Whether torch multiplies matrices of 64-bit integers where x is: on CPUs alone. On a GPU all goes by way of float64."""
    return x.device.type == "cpu"


ONE = Plan(EXACT_BITS, 0, 1, 1)
"""The best that can be: what does not pay then need not be looked at."""


def pays(x: Tensor, y: Tensor, plan: Plan, known: bool = False) -> bool:
    """Whether float64 is the faster way for x @ y. `known`: y's limbs are at hand."""
    if not has_integers(x):
        return True
    at, products = speed(), len(list(plan.pairs()))
    batch = max(math.prod(x.shape[:-2]), math.prod(y.shape[:-2]))
    rows, terms, columns = x.shape[-2], x.shape[-1], y.shape[-1]
    macs, made = batch * rows * terms * columns, x.numel() * plan.x_count + batch * rows * columns * products
    calls = 3 * (plan.x_count + products)
    if not known:
        made, calls = made + y.numel() * plan.y_count, calls + 3 * plan.y_count
    return products * macs * at.real + made * at.made + calls * at.call < macs * at.integer


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """x @ y modulo 2^64, of ring integers [..., n, k] and [..., k, m], the faster way; also inside `torch.func.vmap`.

    What is no ring integers, or has no values to look at, is left to torch.
    """
    if x.dtype != torch.int64 or x.device.type == "meta":
        return torch.matmul(x, y)
    if has_integers(x) and (x.dim() < 2 or y.dim() < 2 or x.numel() * y.shape[-1] < LEAST_WORK):
        return torch.matmul(x, y)
    if x.dim() < 2:
        return matmul(x[None], y).squeeze(-2)
    if y.dim() < 2:
        return matmul(x, y[:, None]).squeeze(-1)
    found: Tensor = _Matmul.apply(x, y)  # type: ignore[no-untyped-call]
    return found


class Fixed:
    """A tensor of ring integers that many values are multiplied with: made ready once, for the side that is asked for."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.sides: dict[bool, _Side] = {}

    def product(self, kind: str, x: Tensor) -> Tensor:
        """bilinear(kind, x, W) modulo 2^64 of kind linear (x @ W.T), matmul (x @ W) or rmatmul (W @ x)."""
        if x.dim() < 2 or self.weight.dim() < 2:
            if kind == "rmatmul":
                return matmul(self.weight, x)
            return matmul(x, self.weight if kind == "matmul" or self.weight.dim() < 2 else self.weight.mT)
        side = self._side(kind == "matmul")
        if kind == "rmatmul":  # W @ x = (x.T @ W.T).T
            return _Matmul.apply(x.mT, side).mT.contiguous()  # type: ignore[no-any-return, no-untyped-call]
        return _Matmul.apply(x, side)  # type: ignore[no-any-return, no-untyped-call]

    def _side(self, straight: bool) -> _Side:
        if straight not in self.sides:
            self.sides[straight] = _Side(self.weight if straight else self.weight.mT.contiguous())
        return self.sides[straight]


class _Side:
    """The right operand of a product, and its only limb once it is wanted."""

    def __init__(self, right: Tensor) -> None:
        self.right = right
        sums = right.double().abs().sum(-2)
        self.bits = EXACT_BITS - math.frexp(float(sums.max()) if sums.numel() else 0.0)[1]
        """Of a limb of x: the largest sum of magnitudes in a column is so much below 2^53."""
        self.real: Tensor | None = None

    def multiplied(self, x: Tensor) -> Tensor:
        """x @ right, the faster way."""
        if self.bits < LEAST_BITS and not has_integers(x):
            return exact(x, self.right)
        if self.bits < LEAST_BITS or not pays(x, self.right, ONE, known=True):
            return torch.matmul(x, self.right)
        plan = Plan(self.bits, 0, max(1, math.ceil(size(x) / self.bits)), 1)
        if not pays(x, self.right, plan, known=True):
            return torch.matmul(x, self.right)
        if self.real is None:
            self.real = self.right.double()
        return _multiplied(limbs(x, plan.x_bits, plan.x_count), [self.real], plan)


class _Matmul(torch.autograd.Function):
    """Sees all calls of a batch as one tensor, whose values it may look at."""

    @staticmethod
    def forward(x: Tensor, y: Tensor | _Side) -> Tensor:
        """y: a tensor, or one made ready."""
        if isinstance(y, _Side):
            return y.multiplied(x)
        if not pays(x, y, ONE):
            return torch.matmul(x, y)
        plan = planned(size(x), size(y), min(x.shape[-1], LONGEST))
        return exact(x, y) if pays(x, y, plan) else torch.matmul(x, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: integers have no gradient."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, y: Tensor | _Side) -> tuple[Tensor, int]:
        """The batch as the first dimension of both."""
        if isinstance(y, _Side):
            rank = max(x.dim() - 1, y.right.dim())
            return _Matmul.apply(_leading(x, in_dims[0], rank), y), 0  # type: ignore[no-untyped-call]
        rank = max(t.dim() - (dim is not None) for t, dim in zip((x, y), in_dims, strict=True))
        x, y = (_leading(t, dim, rank) for t, dim in zip((x, y), in_dims, strict=True))
        return _Matmul.apply(x, y), 0  # type: ignore[no-untyped-call]


def _leading(x: Tensor, dim: int | None, rank: int) -> Tensor:
    """The batch dimension at the front of `rank` others; without one as it is."""
    if dim is None:
        return x
    x = x.movedim(dim, 0)
    return x.reshape(x.shape[0], *[1] * (rank + 1 - x.dim()), *x.shape[1:])
