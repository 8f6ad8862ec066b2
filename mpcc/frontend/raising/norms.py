"""Normalisations over axes, recognised by their values: LayerNorm, RMSNorm (and L2 normalisation), softmax.

Before: (x - mean x) * rsqrt(mean (x - mean x)^2 + eps). After: layer_norm(x, [.., c], eps=eps).
Before: x * rsqrt(sum x^2). After: rms_norm(x) / sqrt(c): the same function with one site.
Before: exp(x - amax x) / sum exp(x - amax x). After: softmax(x).
Axes other than the last ones are brought there by a permute.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.ir.nn import insert, shape_of

from .regions import Region

aten = torch.ops.aten

TOLERANCE = 1e-5
NEAR = 0.05


@dataclass(frozen=True)
class Norm:
    """What a region computes: `kind` over `dims` with `eps`, times `factor`."""

    kind: str
    dims: tuple[int, ...]
    eps: float = 0.0
    factor: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        """The reference."""
        if self.kind == "softmax":
            return x.softmax(self.dims[0])
        centred = x - x.mean(self.dims, keepdim=True) if self.kind == "layer_norm" else x
        return centred * (centred.square().mean(self.dims, keepdim=True) + self.eps).rsqrt() * self.factor


@functools.lru_cache(maxsize=4)
def probe(shape: tuple[int, ...], dims: tuple[int, ...]) -> Tensor:
    """Values whose spread over `dims` runs from 1e-4 to 10, so that every usual epsilon shows.

    A few slices are enough: other axes than `dims` are cut.
    """
    generator = torch.Generator().manual_seed(0)
    shape = tuple(size if dim in dims else min(size, 5) for dim, size in enumerate(shape))
    slices = [1 if dim in dims else size for dim, size in enumerate(shape)]
    count = math.prod(slices)
    spread = torch.logspace(-4, 1, count, dtype=torch.float64) if count > 1 else torch.tensor(1e-3)
    x = torch.randn(shape, dtype=torch.float64, generator=generator) + 0.3
    return x * spread[torch.randperm(count, generator=generator)].reshape(slices) if count > 1 else x * spread


def guesses(region: Region) -> Iterator[Norm]:
    """The norms that the region may be: axes from its reductions, epsilon from its constants."""
    reductions = [node for node in region.nodes if node.target in (aten.mean.dim, aten.sum.dim_IntList)]
    if not reductions or shape_of(region.output) != shape_of(region.source) or not shape_of(region.source):
        return
    dims = _axes(reductions[0])
    if any(_axes(node) != dims for node in reductions):
        return
    if region.has(aten.exp.default):
        if len(dims) == 1:
            yield Norm("softmax", dims)
        return
    count = math.prod(shape_of(region.source)[dim] for dim in dims)
    small = sorted({number for number in region.numbers() if 0 < number < 0.1})
    for eps in [*small, *(number / count for number in small), *(number**2 / count for number in small), 0.0]:
        yield Norm("layer_norm", dims, eps)
        yield Norm("rms_norm", dims, eps)
        yield Norm("rms_norm", dims, eps, 1 / math.sqrt(count))


def _axes(node: fx.Node) -> tuple[int, ...]:
    dims: Any = node.args[1]
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return tuple(sorted(dim % len(shape_of(source)) for dim in dims))


def recognise(region: Region) -> Norm | None:
    """The norm that the region computes, or None. Of equally good ones that with the largest eps."""
    found = [(norm, gap) for norm, gap in _compared(region) if gap <= TOLERANCE]
    if not found:
        return None
    best = min(gap for _, gap in found)
    return max((norm for norm, gap in found if gap <= 2 * best + 1e-12), key=lambda norm: norm.eps)


def near_misses(region: Region) -> Iterator[str]:
    for norm, gap in _compared(region):
        if TOLERANCE < gap <= NEAR:
            yield f"close to {norm.kind} over axes {norm.dims} with eps {norm.eps:g}, but off by {gap:.1e}"


def _compared(region: Region) -> Iterator[tuple[Norm, float]]:
    found: Tensor | None = None
    for norm in guesses(region):
        x = probe(shape_of(region.source), norm.dims)
        found = region(x) if found is None else found
        if found.shape == x.shape:
            yield norm, float((found - norm(x)).abs().max())


def replace(graph: fx.Graph, region: Region, norm: Norm) -> fx.Node:
    """Put the operator in place of the region's output."""
    made_by = f"raise_{norm.kind}"

    def call(target: Any, *args: Any) -> fx.Node:
        return insert(graph, target, args, like=region.output, made_by=made_by)

    rank = len(shape_of(region.source))
    with graph.inserting_before(region.output):
        if norm.kind == "softmax":
            node = call(aten.softmax.int, region.source, norm.dims[0] - rank)
        else:
            order = [dim for dim in range(rank) if dim not in norm.dims] + list(norm.dims)
            moved = order != sorted(order)
            source = call(aten.permute.default, region.source, order) if moved else region.source
            sizes = list(shape_of(source)[rank - len(norm.dims) :])
            if norm.kind == "layer_norm":
                node = call(aten.layer_norm.default, source, sizes, None, None, norm.eps)
            else:
                node = call(aten.rms_norm.default, source, sizes, None, norm.eps)
            node = call(aten.mul.Tensor, node, norm.factor) if norm.factor != 1 else node
            if moved:
                node = call(aten.permute.default, node, [order.index(dim) for dim in range(rank)])
    region.output.replace_all_uses_with(node)
    return node
