"""Raising: decomposed GELU, SiLU, LayerNorm, softmax ... -> the canonical operator that a choice can be made for.

Works on a canonical graph that may still hold the operators of decompositions (erf). A region of the graph that is
computed from one value is compared, by its values, with the functions of `functions` and `norms`; `explain` says why
a region that comes close is not replaced.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from mpcc.ir.nn import describe

from . import functions, norms
from .absorb import absorb_constants
from .kept_axes import keep_axes, put_weights_last
from .regions import ELEMENTWISE, REDUCTIONS, Region, later, regions

__all__ = ["explain", "raise_patterns"]

aten = torch.ops.aten

# Regions that are compared with the known functions, at a millisecond each. Published models have some hundreds.
MOST_REGIONS = 5_000
_NORM_ANCHORS = {aten.rsqrt.default, aten.reciprocal.default, aten.sqrt.default}


def raise_patterns(graph: fx.Graph) -> None:
    """Replace what computes a known function by that function, in place. Dead nodes are left for the caller.

    Of several regions with the same output the one that reaches back farthest is taken: layer_norm(x), not
    rms_norm(x - mean x).
    """
    keep_axes(graph)
    put_weights_last(graph)
    left = MOST_REGIONS
    for group in _norm_regions(graph):
        left -= len(group)
        for region in reversed(group) if left > 0 else ():
            norm = norms.recognise(region)
            if norm is not None:
                norms.replace(graph, region, norm)
                _forget(graph, region)
                break
    for group in _function_regions(graph):
        left -= len(group)
        for region in reversed(group) if left > 0 else ():
            function = functions.recognise(region)
            if function is not None:
                functions.replace(graph, region, *function)
                _forget(graph, region)
                break
    if left <= 0:
        warnings.warn(f"only the first {MOST_REGIONS:,} candidates for a known function were looked at", stacklevel=2)
    absorb_constants(graph)


def _forget(graph: fx.Graph, region: Region) -> None:
    """Drop what of a replaced region nothing else reads."""
    for node in reversed(region.nodes):
        if not node.users:
            graph.erase_node(node)


def explain(graph_module: fx.GraphModule) -> list[str]:
    """What in a captured graph almost is a known function, and by how much it is not: one line each."""
    found = [(region, norms.near_misses) for group in _norm_regions(graph_module.graph) for region in group]
    more = [(region, functions.near_misses) for group in _function_regions(graph_module.graph) for region in group]
    lines = (f"{describe(region.output)}: {why}" for region, judge in (*found, *more) for why in judge(region))
    return list(dict.fromkeys(lines))


def _norm_regions(graph: fx.Graph) -> Iterator[list[Region]]:
    return _regions(graph, _NORM_ANCHORS, ELEMENTWISE | REDUCTIONS, steps=3)


def _function_regions(graph: fx.Graph) -> Iterator[list[Region]]:
    return _regions(graph, functions.ANCHORS, ELEMENTWISE, steps=5)


def _regions(graph: fx.Graph, anchors: set[Any], allowed: set[Any], steps: int) -> Iterator[list[Region]]:
    """For each anchor and each node behind it, the farthest first: the regions that end there, smallest first."""
    for anchor in [node for node in graph.nodes if node.target in anchors]:
        for output in [] if anchor._erased else later(anchor, allowed, steps):
            if not output._erased and not anchor._erased:
                yield [region for region in regions(output, allowed) if anchor in region.nodes]
