"""What a value of the mpc graph has become while the online program is written."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, fx

LIMIT = 62
"""A value X must stay below 2^62 in magnitude, else its truncation wraps."""


LEAST_SIZE = 2.0**-20
"""What a value counts as that calibration saw as (nearly) zero: four bits below the unit of an input at 16 fraction bits, so that
nothing with any content is touched, and logarithms are finite."""


@dataclass(frozen=True)
class Secret:
    """Shares of the integer X = x * scale. `scale` may be negative; `bound` and `rms` describe x (reals)."""

    node: fx.Node
    scale: float
    bound: float
    rms: float

    @property
    def bits(self) -> float:
        """log2 of the scale: how many fraction bits."""
        return math.log2(abs(self.scale))

    @property
    def magnitude(self) -> float:
        """log2 of the largest |X|."""
        return self.bits + math.log2(self.bound)


@dataclass(frozen=True)
class Bit:
    """Packed boolean shares of a comparison's result; `shape` is that of the compared value."""

    node: fx.Node
    shape: tuple[int, ...]
    negated: bool = False


@dataclass(frozen=True)
class Constant:
    """A tensor that the server knows: a parameter, or something computed from parameters only. `public`: everybody does."""

    name: str
    value: Tensor
    public: bool = False

    @property
    def rms(self) -> float:
        """Root mean square, never zero."""
        count = self.value.numel()
        value = self.value if self.value.is_floating_point() else self.value.double()  # an index is a constant too
        return max(float(torch.linalg.vector_norm(value)) / count**0.5, 1e-6) if count else 1.0


Value = Secret | Bit | Constant
