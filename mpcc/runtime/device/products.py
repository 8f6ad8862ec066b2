"""Products modulo 2^64 on a GPU, where torch has none of integers: three ways; each shape takes the one measured fastest.

    digits   bytes on the int8 tensor cores (torch._int_mm), for weights: x = sum_i x_i 256^i, digits in -128 .. 127. What has the
             same weight 256^s lies side by side in the sum, [.. x_s x_(s-1) ..] [.. w_0 w_1 ..]^T, so that all is one product
    limbs    float64 (`mpcc.ir.limbs.exact`)
    words    64-bit multiplications (`Product` in kernels.cu)

The first product of a shape in a session is computed in every way: they must agree bit by bit, or the device is not used. No time
depends on the values but that of `limbs`, which looks at their size, as it does on the CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mpcc.errors import PartyError
from mpcc.ir import limbs

from .kernels import Kernels

DIGITS = 8
"""Of a word, of 8 bits each."""
LARGEST_PRODUCT = 1 << 14
"""Of two digits: (-128)^2."""
MOST_TERMS = (2**31 - 1) // LARGEST_PRODUCT
"""Of a sum in int32."""
MULTIPLE, LEAST_ROWS = 16, 32
"""What torch._int_mm wants of the sides on a GPU: multiples of 8 (16: aligned loads), and more than 16 rows."""
REPEATS = 3
Way = Callable[[], Tensor]


class Digits:
    """A weight [k, n] split into digits once; `others` of them where its integers are so small."""

    def __init__(self, kernels: Kernels, weight: Tensor, others: int | None = None) -> None:
        self.kernels, self.others = kernels, others or digits_of(weight)
        self.k, self.n = weight.shape
        self.padded = _up(self.k, MULTIPLE)
        columns = torch.zeros(_up(self.n, MULTIPLE), self.padded, dtype=torch.int64, device=weight.device)
        columns[: self.n, : self.k] = weight.T
        rows = kernels.split_digits(columns, self.padded, 1, DIGITS * len(columns))
        split = rows.view(DIGITS, len(columns), self.padded)[: self.others]
        self.columns = split.movedim(0, 1).reshape(len(columns), -1).contiguous()

    def product(self, x: Tensor) -> Tensor:
        """x [m, k] times the weight, modulo 2^64."""
        m = len(x)
        rows = self.kernels.split_digits(x, self.padded, self.others, max(DIGITS * m, LEAST_ROWS))
        return self.kernels.join_digits(torch._int_mm(rows, self.columns.T), m, self.n)


def digits_of(weight: Tensor) -> int:
    """How many digits hold the integers of a weight."""
    low, high = (int(end) for end in weight.aminmax())
    return next((n for n in range(1, DIGITS) if -128 * _ones(n) <= low and high <= 127 * _ones(n)), DIGITS)


def fits(terms: int, others: int) -> bool:
    """Whether no sum of products of digits leaves int32."""
    return others * _up(terms, MULTIPLE) <= MOST_TERMS


class Products:
    """The products of a party or of the dealer on one device; `weights` are known by identity, and stay the same."""

    def __init__(self, kernels: Kernels, weights: Sequence[Tensor | None] = ()) -> None:
        self.kernels = kernels
        self.fixed = {id(weight): weight for weight in weights if weight is not None}
        self.counts: dict[int, int] = {}
        """Of each weight, how many digits it has."""
        self.digits: dict[tuple[int, bool], Digits] = {}
        """Of those that are multiplied so."""
        self.chosen: dict[tuple[Any, ...], str] = {}
        """Shapes, and of a weight its digits -> the way."""
        self.seconds: dict[tuple[Any, ...], Mapping[str, float]] = {}

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """x @ y modulo 2^64, of ring integers, as torch.matmul broadcasts them."""
        if x.dim() == 1:
            return self.matmul(x[None], y).squeeze(-2)
        if y.dim() == 1:
            return self.matmul(x, y[:, None]).squeeze(-1)
        if not x.numel() or not y.numel():
            return (x[..., :, :1] * y[..., :1, :]) if x.shape[-1] else x.new_zeros(*x.shape[:-1], y.shape[-1])
        if y.dim() == 2:
            made = self._chosen(x.reshape(1, -1, x.shape[-1]), y[None])
            return made.reshape(*x.shape[:-1], y.shape[-1])
        batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2])  # type: ignore[no-untyped-call]
        left = x.expand(*batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
        right = y.expand(*batch, *y.shape[-2:]).reshape(-1, *y.shape[-2:])
        return self._chosen(left, right).reshape(*batch, x.shape[-2], y.shape[-1])

    def by_weight(self, kind: str, x: Tensor, weight: Tensor) -> Tensor:
        """bilinear(kind, x, W) of a known weight [.., ..]: linear (x @ W.T), matmul (x @ W), rmatmul (W @ x)."""
        if kind == "rmatmul":
            if x.dim() < 2:
                return self.by_weight("linear", x, weight)
            return self.by_weight("linear", x.mT, weight).mT.contiguous()
        turned = kind == "linear"
        right = weight.mT if turned else weight
        if not x.numel() or not right.numel():
            return self.matmul(x, right)
        flat = x.reshape(1, -1, x.shape[-1])
        return self._chosen(flat, right[None], (weight, turned)).reshape(*x.shape[:-1], right.shape[-1])

    def _count(self, weight: Tensor) -> int:
        if id(weight) not in self.counts:
            self.counts[id(weight)] = digits_of(weight)
        return self.counts[id(weight)]

    def _by_digits(self, x: Tensor, weight: Tensor, turned: bool) -> Tensor:
        key = id(weight), turned
        if key not in self.digits:
            self.digits[key] = Digits(self.kernels, weight.mT if turned else weight, self._count(weight))
        return self.digits[key].product(x)

    def _chosen(self, x: Tensor, y: Tensor, known: tuple[Tensor, bool] | None = None) -> Tensor:
        """[batch, m, k] times [batch, k, n]. `known`: of which weight y is a view, and whether it is turned."""
        count = 0 if known is None else self._count(known[0])
        ways: dict[str, Way] = {"words": lambda: self.kernels.multiply(x, y), "limbs": lambda: limbs.exact(x, y)}
        if known is not None and fits(x.shape[-1], count):
            ways["digits"] = lambda: self._by_digits(x[0], *known)[None]
        key = (*x.shape, y.shape[-1], count)
        if key in self.chosen:
            return ways[self.chosen[key]]()
        found = self._measured(key, ways)
        if known is not None and self.chosen[key] != "digits":
            self.digits.pop((id(known[0]), known[1]), None)
        return found

    def _measured(self, key: tuple[Any, ...], ways: Mapping[str, Way]) -> Tensor:
        """Every way once, to see that they agree, and then on time."""
        found = {name: way() for name, way in ways.items()}
        first = found["words"]
        for name, other in found.items():
            if not torch.equal(first, other):
                what = f"products of shape {key[:4]} differ between two ways to compute them (words and {name})"
                raise PartyError(what, where=str(self.kernels.device), hint="The device computes wrongly: use another.")
        self.seconds[key] = {name: self._timed(way) for name, way in ways.items()}
        self.chosen[key] = min(self.seconds[key], key=self.seconds[key].__getitem__)
        return first

    def _timed(self, way: Way) -> float:
        """The least of some runs: what else the device does only adds."""
        took = []
        for _ in range(REPEATS):
            self._wait()
            start = time.perf_counter()
            way()
            self._wait()
            took.append(time.perf_counter() - start)
        return min(took)

    def _wait(self) -> None:
        if self.kernels.device.type == "cuda":
            torch.cuda.synchronize(self.kernels.device)


def _ones(digits: int) -> int:
    """1 + 256 + ...: what the largest digits make is 127 times that."""
    return ((1 << 8 * digits) - 1) // 255


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
