"""Products with the server's weights, which stay the same over a session: what they need of a weight is made once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from mpcc.ir import online
from mpcc.ir.limbs import Fixed

MADE_READY = ("linear", "matmul", "rmatmul")
"""Kinds of products that are one matrix product each; the others go by `mpcc.ir.ring.bilinear`."""


class Prepared:
    """The weights of a program, known by identity. None, the client's of a secret one, is no weight."""

    def __init__(self, weights: Iterable[Tensor | None]) -> None:
        self.fixed = {id(weight): Fixed(weight) for weight in weights if weight is not None}

    def weight_product(self, kind: str, c: Tensor, weight: Tensor | None, rw: Any, attributes: Sequence[Any] = ()) -> Tensor:
        """`online.weight_product`, the same integers."""
        if weight is None or kind not in MADE_READY or id(weight) not in self.fixed:
            return online.weight_product(kind, c, weight, rw, attributes)
        result = self.fixed[id(weight)].product(kind, c)
        return result if rw is None else result - rw

    def public_product(self, kind: str, x: Tensor | None, weight: Tensor, attributes: Sequence[Any] = ()) -> Tensor | None:
        """`online.public_product`, the same integers."""
        if x is None or kind not in MADE_READY or id(weight) not in self.fixed:
            return online.public_product(kind, x, weight, attributes)
        return self.fixed[id(weight)].product(kind, x)

    @property
    def kernels(self) -> Mapping[Any, Callable[..., Any]]:
        """What stands for the kernels of `mpcc.ir.online`."""
        return {online.weight_product: self.weight_product, online.public_product: self.public_product}
