"""The range of a value: smallest, largest, root mean square."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

EXAMPLES = "examples"
"""Key of a graph's own meta: the inputs of a few calls, a tuple of tensors each, that its ranges were recorded on."""


@dataclass(frozen=True)
class Range:
    """Smallest and largest value seen, and the root mean square."""

    low: float
    high: float
    rms: float

    def widened(self, margin: float) -> Range:
        """The range with its half-width multiplied by `margin` (1.25 is a quarter more on both sides)."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2 * margin
        return Range(middle - half, middle + half, self.rms)

    @property
    def bound(self) -> float:
        return max(abs(self.low), abs(self.high))

    @staticmethod
    def of(values: Tensor) -> Range:
        """The range of the values of a tensor."""
        values = values.detach().double()
        return Range(values.min().item(), values.max().item(), values.square().mean().sqrt().item())
