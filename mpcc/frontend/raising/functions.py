"""Elementwise functions, recognised by their values: GELU (exact and tanh), SiLU, hardswish, sigmoid, softplus ...

Before: x * 0.5 * (1 + erf(x / 1.41421354)) in any order of factors. After: gelu(x).
A function is known if it agrees on a grid within `TOLERANCE`; the constants of exporters, rounded to float32, differ by
1e-7, the two forms of GELU from one another by 5e-4, a GELU with 1.4 for sqrt 2 from the true one by 4e-3.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from mpcc.ir.nn import insert

from .regions import Region

aten = torch.ops.aten

TOLERANCE = 1e-5  # of the larger of 1 and the value
CLOSE = 12.0  # up to here nothing overflows: a region that gives NaN is no function of the table
NEAR = 0.05  # a function this close is reported as a near miss


@dataclass(frozen=True)
class Function:
    """A function of the table, and the operator it becomes."""

    name: str
    reference: Callable[[Tensor], Tensor]
    target: Any
    options: tuple[tuple[str, Any], ...] = ()


FUNCTIONS = (
    Function("gelu", F.gelu, aten.gelu.default),
    Function("gelu_tanh", functools.partial(F.gelu, approximate="tanh"), aten.gelu.default, (("approximate", "tanh"),)),
    Function("silu", F.silu, aten.silu.default),
    Function("hardswish", F.hardswish, aten.hardswish.default),
    Function("hardsigmoid", F.hardsigmoid, aten.hardsigmoid.default),
    Function("sigmoid", torch.sigmoid, aten.sigmoid.default),
    Function("tanh", torch.tanh, aten.tanh.default),
    Function("softplus", F.softplus, aten.softplus.default),
    Function("mish", F.mish, aten.mish.default),
    Function("relu", torch.relu, aten.relu.default),
)

# The first of them have constants inside when they are written out, with which exporters and optimisers merge the scale of
# a next layer.
GATES = 5
_AT = 1200  # x = 12, where none of them is 0

# A region without one of these is plain arithmetic.
ANCHORS = {
    *(aten.erf.default, aten.erfc.default, aten.tanh.default, aten.sigmoid.default, aten.exp.default, aten.log.default),
    *(aten.hardsigmoid.default, aten.clamp.default, aten.relu.default, aten.softplus.default),
}


@functools.cache
def grid() -> Tensor:
    """Dense where the functions bend, sparse out to where only their limits are seen."""
    far = torch.logspace(1, 4, 13, dtype=torch.float64)
    return torch.cat([torch.linspace(-CLOSE, CLOSE, 1201, dtype=torch.float64), far, -far])


@functools.cache
def references() -> Tensor:
    """What each of FUNCTIONS makes of the grid, one row each."""
    return torch.stack([function.reference(grid()) for function in FUNCTIONS])


def gaps(found: Tensor, wanted: Tensor) -> Tensor:
    """Differences along the grid, relative where values exceed 1; overflow far out does not count."""
    gap = (found - wanted).abs() / wanted.abs().clamp(min=1)
    return torch.where(found.isfinite(), gap, torch.where(grid().abs() > CLOSE, 0.0, torch.inf))


def recognise(region: Region) -> tuple[Function, float, float] | None:
    """The known function f and the factors a, c of c f(a x); None if there is none."""
    if len(region.nodes) < 2 or not region.has(*ANCHORS):
        return None
    found = region(grid())
    if found.shape != grid().shape:
        return None
    exact = _first(found, references())
    if exact is not None:
        return FUNCTIONS[exact], 1.0, 1.0
    for factor in region.numbers():  # x sigmoid(1.702 x) is silu(1.702 x) / 1.702
        if factor not in (0.0, 1.0) and _first(found, (F.silu(factor * grid()) / factor)[None]) is not None:
            return FUNCTIONS[2], factor, 1 / factor
    scales = found[_AT] / references()[:GATES, _AT]  # a scale that follows was merged with the constants inside
    if not bool((scales.isfinite() & (scales != 0)).all()):
        return None
    scaled = _first(found / scales[:, None], references()[:GATES])
    return None if scaled is None else (FUNCTIONS[scaled], 1.0, float(scales[scaled]))


def _first(found: Tensor, wanted: Tensor) -> int | None:
    """The first row that `found` agrees with."""
    fitting = (gaps(found, wanted).amax(-1) <= TOLERANCE).nonzero()
    return int(fitting[0]) if len(fitting) else None


def near_misses(region: Region) -> Iterator[str]:
    """Why a region that looks like a known function is not it."""
    if len(region.nodes) < 2 or not region.has(*ANCHORS):
        return
    found = region(grid())
    if found.shape != grid().shape or not found.isfinite().any():
        return
    for function, row in zip(FUNCTIONS, gaps(found, references()), strict=True):
        gap, place = float(row.max()), float(grid()[row.argmax()])
        if TOLERANCE < gap <= NEAR:
            yield f"close to {function.name}, but off by {gap:.1e} at x = {place:.3g} (allowed: {TOLERANCE:.0e})"


def replace(graph: fx.Graph, region: Region, function: Function, factor: float, scale: float) -> fx.Node:
    """Put scale * function(factor * x) in place of the region's output."""
    anchor = next(node for node in region.nodes if node.target in ANCHORS)
    made_by = f"raise_{function.name}"
    with graph.inserting_before(region.output):
        source = region.source
        if factor != 1:
            source = insert(graph, aten.mul.Tensor, (source, factor), like=anchor, made_by=made_by)
        node = insert(graph, function.target, (source,), dict(function.options), like=anchor, made_by=made_by)
        if scale != 1:
            node = insert(graph, aten.mul.Tensor, (node, scale), like=anchor, made_by=made_by)
    region.output.replace_all_uses_with(node)
    return node
