"""Puts the families together: how many inputs, which of them inverted, and a second family that judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ..ranges import values_a_call
from .families import fitted, judging
from .invert import inverted
from .kinds import Kind, kinds

SEED = 0
MOST, FEWEST, MOST_JUDGING = 224, 4, 192
VALUES = 1 << 27
"""Values of a graph's nodes over all calls: what a run over the inputs costs."""
MOST_INVERTED, FEWEST_INVERTED = 32, 8
STEPS = 40
INVERSION_VALUES = 1 << 32
"""Values of a graph's nodes over all steps of an inversion, three for each of a step: forward once, backward twice."""

Call = tuple[Tensor, ...]


@dataclass(frozen=True)
class Synthetic:
    """Inputs made from a model. `columns` [calls, *shape] for each input fit ranges, `judge` chose nothing."""

    kinds: tuple[Kind, ...]
    columns: tuple[Tensor, ...]
    judge: tuple[Tensor, ...]
    inverted: int
    through: Callable[..., Call] | None = None
    """What the client computes of a call before anything is private; the calls are then its results."""

    def calls(self, gain: float = 1.0) -> list[Call]:
        """One tuple a call; what has a size is `gain` times as large."""
        scaled = [
            column * gain if kind.scalable else column
            for kind, column in zip(self.kinds, self.columns, strict=True)
        ]
        return self._behind(scaled)

    @property
    def scalable(self) -> bool:
        """Whether some input can be made larger at all."""
        return any(kind.scalable for kind in self.kinds)

    def judging(self) -> list[Call]:
        """The judge's calls."""
        return self._behind(self.judge)

    def _behind(self, columns: Sequence[Tensor]) -> list[Call]:
        calls = list(zip(*columns, strict=True))
        return calls if self.through is None else [self.through(*call) for call in calls]

    @property
    def source(self) -> str:
        """Where the range of the values comes from, for each input."""
        return "; ".join(f"{kind.name}: {kind.kind} in [{kind.low:.3g}, {kind.high:.3g}], {kind.source}" for kind in self.kinds)


def range_of(given: Sequence[Sequence[Tensor]]) -> tuple[float, float] | None:
    """Smallest and largest value of the first input over given calls; None where it holds no floats."""
    first = [call[0] for call in given if call[0].is_floating_point()]
    return (min(float(x.min()) for x in first), max(float(x.max()) for x in first)) if first else None


def synthesise(
    graph: fx.GraphModule,
    values: int = 0,
    *,
    input_range: tuple[float, float] | None = None,
    configured: tuple[float, float] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Synthetic:
    """Inputs for an nn-level graph as it was captured, before passes move its normalisation away.

    `values` that one call computes, at all nodes together: the more, the fewer calls. `input_range` is what the user says of
    the values of its pictures and features, `configured` what the model's configuration says (`kinds.configured_range`)."""
    generator = torch.Generator().manual_seed(SEED)
    found = tuple(kinds(graph, input_range, configured))
    values = max(1, values or values_a_call(graph))
    count = max(FEWEST, min(MOST, VALUES // values))
    columns = [fitted(kind, count, generator) for kind in found]
    extra = _inverted(graph, found, values, generator, progress)
    if extra is not None:
        columns = [torch.cat([columns[0], extra])]
    judge = tuple(judging(kind, min(MOST_JUDGING, count), generator) for kind in found)
    return Synthetic(found, tuple(columns), judge, 0 if extra is None else len(extra))


def _inverted(
    graph: fx.GraphModule,
    found: Sequence[Kind],
    values: int,
    generator: torch.Generator,
    progress: Callable[[int, int], None],
) -> Tensor | None:
    """Inverted inputs where the model takes one picture, and their time is small beside the rest."""
    if len(found) != 1 or not found[0].picture or not found[0].dtype.is_floating_point:
        return None
    count = min(MOST_INVERTED, INVERSION_VALUES // (3 * STEPS * values))
    if count < FEWEST_INVERTED:
        return None
    start = fitted(found[0], count, generator)
    return inverted(graph, start, found[0].low, found[0].high, STEPS, generator, progress)
