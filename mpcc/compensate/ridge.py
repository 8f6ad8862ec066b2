"""Ridge regression that stays near the weights as they were, from normal equations that are added up batch by batch.

    argmin over D of  |F (W + D) + b' - T|^2 + lambda |D|^2 rows(F) mean(F^2)

F [rows, features], T [rows, outputs], W the weights as they were, b' free where the product has a bias (both sides centred,
which is the same). In float64. `Normal` holds the equations of several groups side by side (a grouped convolution).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

STRENGTHS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)
"""Of lambda, relative to the mean square of the features. Below, weights grow where features hardly differ; above, they stay."""
SMALLEST = 1e-30
"""Mean square of features that are all zero, so that their equations have a solution: no change."""


@dataclass(frozen=True)
class Normal:
    """Sums over rows: of F^T F, F^T T, T^2, F, T, and the rows; each [groups, ...]."""

    ff: Tensor
    ft: Tensor
    tt: Tensor
    f: Tensor
    t: Tensor
    rows: int

    @staticmethod
    def of(features: Tensor, target: Tensor) -> Normal:
        """Of [groups, rows, features] and [groups, rows, outputs]."""
        f, t = features.double(), target.double()
        return Normal(f.mT @ f, f.mT @ t, t.square().sum((1, 2)), f.sum(1), t.sum(1), f.shape[1])

    def __add__(self, other: Normal) -> Normal:
        return Normal(
            self.ff + other.ff, self.ft + other.ft, self.tt + other.tt, self.f + other.f, self.t + other.t, self.rows + other.rows
        )

    def centred(self) -> Normal:
        """The same of features and targets less their means."""
        f, t = self.f / self.rows, self.t / self.rows
        ff = self.ff - self.rows * f[:, :, None] * f[:, None, :]
        ft = self.ft - self.rows * f[:, :, None] * t[:, None, :]
        return Normal(ff, ft, self.tt - self.rows * t.square().sum(1), torch.zeros_like(f), torch.zeros_like(t), self.rows)

    def error(self, weight: Tensor, bias: Tensor | None = None) -> float:
        """Sum of squares of F W + b - T, infinite where it is no number; `weight` [groups, features, outputs], `bias` [groups,
        outputs]."""
        found = self.tt.sum() + (weight * (self.ff @ weight - 2 * self.ft)).sum()
        if bias is not None:
            found = found + (bias * (2 * (self.f[:, None] @ weight)[:, 0] + self.rows * bias - 2 * self.t)).sum()
        return float(found.nan_to_num(nan=torch.inf))

    def solved(self, weight: Tensor, bias: bool, strength: float) -> tuple[Tensor, Tensor | None]:
        """(weight, bias) of least error, NaN where there is none; `weight` as it was."""
        own = self.centred() if bias else self
        size = own.ff.diagonal(dim1=1, dim2=2).mean(1).clamp(min=SMALLEST)
        eye = torch.eye(own.ff.shape[-1], dtype=torch.float64)
        factor, failed = torch.linalg.cholesky_ex(own.ff + strength * size[:, None, None] * eye)
        made = weight + torch.cholesky_solve(own.ft - own.ff @ weight, factor)
        made = torch.where((failed == 0)[:, None, None], made, torch.nan)
        if not bias:
            return made, None
        return made, (self.t - (self.f[:, None] @ made)[:, 0]) / self.rows


def best_strength(first: Normal, second: Normal, weight: Tensor, bias: bool, strengths: Iterable[float]) -> tuple[float, float]:
    """(error, lambda) of the solution of `first` that is best for `second`; `weight` as it was."""
    return min((second.error(*first.solved(weight, bias, one)), one) for one in strengths)
