"""Writes the online graph and the dealer graph side by side; equal nodes are one node.

So a value that is masked twice is opened once, and a correlation that two products need is sent once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.ir import dealer
from mpcc.ir.nn import shape_of
from mpcc.ir.ring import words
from mpcc.ir.trace import infer
from mpcc.program.shapes import known_shape


@dataclass(frozen=True)
class WeightUse:
    """One encoding of one constant: integers round(value * scale)."""

    constant: str
    scale: float


class Builder:
    """`on` appends to the online graph, `deal` to the dealer graph; both give the existing node when there is one."""

    def __init__(self) -> None:
        self.online, self.dealer = fx.Graph(), fx.Graph()
        self.seen: dict[tuple[Any, ...], fx.Node] = {}
        self.correlations: dict[fx.Node, fx.Node] = {}  # dealer node -> online placeholder
        self.weights: dict[WeightUse, fx.Node] = {}
        self.weight_masks: dict[fx.Node, fx.Node] = {}
        self.constants: dict[str, Tensor] = {}
        self.meta: dict[str, Any] = {}

    def on(self, target: Callable[..., Any], *args: Any, shape: Sequence[int] | None = None, **kwargs: Any) -> fx.Node:
        """A node of the online graph. `shape` where it cannot be inferred by running the kernel on meta tensors."""
        return self._append(self.online, target, args, kwargs, shape)

    def deal(self, target: Callable[..., Any], *args: Any, shape: Sequence[int] | None = None, **kwargs: Any) -> fx.Node:
        """A node of the dealer graph."""
        return self._append(self.dealer, target, args, kwargs, shape)

    def fresh(self, target: Callable[..., Any], shape: Sequence[int]) -> fx.Node:
        """A random node of the dealer graph: never merged with another one."""
        node = self.dealer.call_function(target, (tuple(shape) if target is not dealer.plane_masks else shape[1],))
        node.meta["val"] = _meta(shape)
        node.meta.update(self.meta)
        return node

    def correlation(self, source: fx.Node, *, boolean: bool = False) -> fx.Node:
        """The party's share of a dealer value."""
        if source not in self.correlations:
            node = self.online.placeholder(f"correlation_{len(self.correlations)}")
            owned = source.target is dealer.weight_mask
            node.meta.update(self.meta, val=_meta(shape_of(source)), kind="correlation", boolean=boolean, owned=owned)
            self.correlations[source] = node
        return self.correlations[source]

    def weight_mask(self, weight: fx.Node) -> fx.Node:
        """The mask of an encoded weight in the dealer graph: one for all products with it. Its owner knows it whole."""
        if weight not in self.weight_masks:
            self.weight_masks[weight] = self.fresh(dealer.weight_mask, shape_of(weight))
        return self.weight_masks[weight]

    def input(self, name: str, shape: Sequence[int], scale: float) -> fx.Node:
        node = self.online.placeholder(f"input_{name}")
        node.meta.update(val=_meta(shape), kind="input", scale=scale, input=name)
        return node

    def weight(self, name: str, value: Tensor, scale: float) -> fx.Node:
        """The owner's integers of a constant at a scale."""
        use = WeightUse(name, scale)
        if use not in self.weights:
            self.constants[name] = value
            node = self.online.placeholder(f"weight_{len(self.weights)}")
            node.meta.update(val=_meta(value.shape), kind="weight", scale=scale, constant=name)
            self.weights[use] = node
        return self.weights[use]

    def _append(self, graph: fx.Graph, target: Callable[..., Any], args: Any, kwargs: Any, shape: Any) -> fx.Node:
        key = (id(graph), target, _key(args), _key(kwargs))
        if key in self.seen:
            return self.seen[key]
        node = graph.call_function(target, args, kwargs)
        known = known_shape(target, args) if shape is None else shape
        node.meta["val"] = infer(node) if known is None else _meta(known)
        node.meta.update(self.meta)
        self.seen[key] = node
        return node


def packed_words(shape: Sequence[int]) -> int:
    """How many words hold one bit per element of `shape`."""
    count = 1
    for s in shape:
        count *= s
    return words(count)


def _meta(shape: Sequence[int]) -> Tensor:
    return torch.empty(tuple(shape), dtype=torch.int64, device="meta")


def _key(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_key(v) for v in value)
    if isinstance(value, dict):
        return tuple(sorted((k, _key(v)) for k, v in value.items()))
    return (type(value).__name__, value)


