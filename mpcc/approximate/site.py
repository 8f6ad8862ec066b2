"""A site is a place in the nn-level graph where a choice exists; its statistics are what a fit may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mpcc.ir.value_range import Range

from .logit_margin import STRETCH

__all__ = ["Range", "Site", "SiteStatistics"]


@dataclass(frozen=True)
class Site:
    """One choice: its unique name, canonical operator (`softmax`), the user's layer, the input's shape."""

    name: str
    operator: str
    layer: str
    shape: tuple[int, ...]
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class SiteStatistics:
    """What calibration saw at one site: named quantities (`input`, `centred`, `denominator`, `variance` ...).

    `ranges` hold extremes over the whole calibration set, `samples` a subsample of values, 1-D float64.
    `stretch` is the factor on logits that the ranges of a softmax allow for.
    `calibrated` is False when the inputs were synthetic: every number that depends on it must say so.
    `fixed`: options that the model was trained with (a floor, a parabola's coefficients), which a fit must keep.
    """

    site: Site
    ranges: Mapping[str, Range]
    samples: Mapping[str, Tensor]
    calibrated: bool = True
    stretch: float = STRETCH
    fixed: Mapping[str, Any] = field(default_factory=dict)
