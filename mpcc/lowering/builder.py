"""Writes the online graph and the dealer graph side by side; equal nodes are one node.

So a value that is masked twice is opened once, and a correlation that two products need is sent once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.errors import RangeError
from mpcc.ir import dealer
from mpcc.ir.info import KEY, Info, Input, Origin, Weight
from mpcc.ir.kinds import printable
from mpcc.ir.nn import shape_of
from mpcc.ir.opcodes import BY_FUNCTION, value_of

from .values import LIMIT


class Builder:
    """`on` appends to the online graph, `deal` to the dealer graph; both give the existing node when there is one."""

    def __init__(self) -> None:
        self.online, self.dealer = fx.Graph(), fx.Graph()
        self.seen: dict[tuple[Any, ...], fx.Node] = {}
        self.correlations: dict[fx.Node, fx.Node] = {}  # dealer node -> online placeholder
        self.weights: dict[Weight, fx.Node] = {}
        self.weight_masks: dict[fx.Node, fx.Node] = {}
        self.constants: dict[str, Tensor] = {}
        self.inputs = 0
        self.origin = Origin()
        """Of the nodes that are made next."""

    def on(self, target: Callable[..., Any], *args: Any) -> fx.Node:
        """A node of the online graph."""
        return self._append(self.online, target, args)

    def deal(self, target: Callable[..., Any], *args: Any) -> fx.Node:
        """A node of the dealer graph."""
        return self._append(self.dealer, target, args)

    def fresh(self, target: Callable[..., Any], *args: Any) -> fx.Node:
        """A random node of the dealer graph: never merged with another one."""
        return self._call(self.dealer, target, args)

    def correlation(self, source: fx.Node) -> fx.Node:
        """The party's share of a dealer value."""
        if source not in self.correlations:
            self.correlations[source] = self._placeholder(f"correlation_{len(self.correlations)}", shape_of(source), None)
        return self.correlations[source]

    def weight_mask(self, weight: fx.Node) -> fx.Node:
        """The mask of an encoded weight in the dealer graph: one for all products with it. The server knows it whole."""
        if weight not in self.weight_masks:
            self.weight_masks[weight] = self.fresh(dealer.weight_mask, shape_of(weight))
        return self.weight_masks[weight]

    def input(self, name: str, shape: Sequence[int], scale: float) -> fx.Node:
        self.inputs += 1
        return self._placeholder(f"input_{self.inputs - 1}", shape, Input(printable(name), scale))

    def weight(self, name: str, value: Tensor, scale: float, public: bool = False) -> fx.Node:
        """The integers of a constant at a scale: the server's, or everybody's. RangeError where they are none, or beyond the
        ring."""
        use = Weight(name, scale, public)
        if use not in self.weights:
            largest = float(value.double().abs().max()) * abs(scale) if value.numel() else 0.0
            if not largest < 2.0**LIMIT:  # NaN is not
                raise RangeError("a weight is infinite, NaN or beyond the ring", where=name, hint="Check the trained model.")
            self.constants[name] = value
            self.weights[use] = self._placeholder(f"weight_{len(self.weights)}", value.shape, use)
        return self.weights[use]

    def _placeholder(self, name: str, shape: Sequence[int], given: Input | Weight | None) -> fx.Node:
        node = self.online.placeholder(name)
        node.meta.update({"val": torch.empty(tuple(shape), dtype=torch.int64, device="meta"), KEY: Info(self.origin, given)})
        return node

    def _append(self, graph: fx.Graph, target: Callable[..., Any], args: Any) -> fx.Node:
        key = (id(graph), target, _key(args))
        if key not in self.seen:
            self.seen[key] = self._call(graph, target, args)
        return self.seen[key]

    def _call(self, graph: fx.Graph, target: Callable[..., Any], args: Any) -> fx.Node:
        node = graph.call_function(target, args)
        node.meta.update({"val": value_of(BY_FUNCTION[target], node), KEY: Info(self.origin)})
        return node


def origin_of(node: fx.Node) -> Origin:
    """Where a node of the mpc graph comes from, as its program says."""
    layer, site, part = (printable(str(node.meta.get(key) or "")) for key in ("layer", "site", "part"))
    return Origin(layer, site, part, getattr(node.target, "__name__", str(node.target)))


def _key(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_key(v) for v in value)
    return (type(value).__name__, value)
