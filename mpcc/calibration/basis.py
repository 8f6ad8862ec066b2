"""What ranges and accuracy figures rest on: the user's inputs, inputs made from the model, or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

ENOUGH = 64
"""Inputs of the user's from which ranges rest on them alone: below, inputs made from the model are added."""


@dataclass(frozen=True)
class Basis:
    """How many inputs there were, and what a second family of synthetic inputs, which chose nothing, said of the ranges.

    `given` inputs are the user's, `synthetic` ones were made from the model, of these `inverted` by gradient, `gain` times
    as large as they were made. Of `judged` further ones, the share `outside` left a valid range of the plan without search.
    `source` says where the range of the values comes from.
    """

    given: int
    synthetic: int = 0
    inverted: int = 0
    gain: float = 1.0
    judged: int = 0
    outside: float = 0.0
    source: str = ""

    @property
    def calibrated(self) -> bool:
        """Whether figures rest on the user's inputs."""
        return self.given > 0

    def __str__(self) -> str:
        if not self.synthetic:
            return f"{self.given} given input(s)"
        made = f"{self.synthetic} synthetic inputs ({self.source})"
        made = made if not self.given else f"{self.given} given input(s) and {made}"
        return f"{made}; {self.outside:.2%} of {self.judged} others leave a fitted range"

    def document(self) -> Mapping[str, Any]:
        """As JSON, for plan.json, manifest.json and --json."""
        return asdict(self)
