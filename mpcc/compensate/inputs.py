"""The inputs of a compensation: which of them make the equations, which choose, which judge, and what is made of them besides.

Equations of a few hundred inputs leave weights uncertain. No labels are needed, since the model as it was gives the targets, so
inputs are moved by a few pixels (pictures) and mixed in pairs (any numbers): on the tuning half of benchmarks/zoo four such
copies lower the divergence that is left by a sixth with 256 inputs; of twelve, plans at 50 to 80 % of the bounded plan's time are
0.1 to 2.7 points better than of four, which 24 no longer add to. Whole numbers (token ids) and several inputs are left alone:
what lies between two of them may mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.nn import functional

from mpcc.ir.nn import size_of

from .sweep import Calls

FEWEST = 8
"""Calls from which a compensation is tried: two choose lambda, one judges."""
JUDGING, CHOOSING, MANY = 5, 4, 32
"""One in so many calls judges the result, or `MANY` (up to a third) where these are few; of the rest, one in so many chooses
lambda."""
LIVE_VALUES, LIVE_NODES = 1 << 28, 8
"""Values kept at once (1 GB), and how many of the largest nodes are: the stream, what is made of it, and both as they were."""
MOVED = 14
"""Pictures are moved by up to their side over this number: 2 pixels of 28, 16 of 224, and none of 8."""
MIXED = 0.5
"""Largest share of the other input in a mixture."""
SEED = 0


@dataclass(frozen=True)
class Effort:
    """How many calls a compensation uses at most, how many copies of those that fit are made, and how many `steps` of gradient
    follow in each block."""

    calls: int = 1024
    copies: int = 12
    steps: int = 0


FULL, QUICK = Effort(), Effort(calls=96, copies=0)
"""For a plan that was settled on; for one among many that a search compares."""


@dataclass(frozen=True)
class Parts:
    """`calls` for the sweep; the last `judging` of them judge, and those before `own` were made of others."""

    calls: Calls
    judging: int
    own: int


def parts_of(graph: fx.GraphModule, columns: Sequence[Tensor], effort: Effort) -> Parts | None:
    """The inputs of a compensation; None where there are too few."""
    largest = max((size_of(node) for node in graph.graph.nodes if "val" in node.meta), default=1)
    most = LIVE_VALUES // (LIVE_NODES * largest)
    total = min(len(columns[0]), effort.calls, most)
    if total < FEWEST:
        return None
    shuffled = torch.randperm(len(columns[0]), generator=torch.Generator().manual_seed(SEED))[:total]
    judging = max(total // JUDGING, min(MANY, total // 3))
    tune = max(2, (total - judging) // CHOOSING)
    fit = total - judging - tune
    taken = [column[shuffled] for column in columns]
    copies = min(effort.copies, max(0, (most - total) // fit)) if _mixable(columns) else 0
    made = _copies(taken[0][:fit], copies) if copies else None
    joined = taken if made is None else [torch.cat([made, taken[0]])]
    extra = 0 if made is None else len(made)
    return Parts(Calls(tuple(joined), fit + extra, tune, effort.steps), judging, extra)


def _mixable(columns: Sequence[Tensor]) -> bool:
    return len(columns) == 1 and columns[0].is_floating_point()


def _copies(calls: Tensor, copies: int) -> Tensor:
    """`copies` times the calls [calls, ...]: pictures are moved, and every second copy is mixed; of other inputs each copy is."""
    generator = torch.Generator().manual_seed(SEED)
    reach = min(calls.shape[-2:]) // MOVED if calls.dim() == 5 else 0
    found = []
    for number in range(copies):
        copy = _moved(calls, reach, generator) if reach else calls
        if not reach or number % 2:
            share = MIXED * torch.rand(len(calls), *[1] * (calls.dim() - 1), generator=generator)
            copy = torch.lerp(copy, copy[torch.randperm(len(calls), generator=generator)], share.to(copy.dtype))
        found.append(copy)
    return torch.cat(found)


def _moved(calls: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Pictures [calls, batch, channels, height, width], each call moved by up to `reach` pixels, its border repeated."""
    height, width = calls.shape[-2:]
    found = []
    for call in calls:
        padded = functional.pad(call, [reach] * 4, mode="replicate")
        top, left = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
        found.append(padded[..., top : top + height, left : left + width])
    return torch.stack(found)
