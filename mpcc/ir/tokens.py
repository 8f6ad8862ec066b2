"""A graph with more or fewer tokens: the same operations on other shapes, where it is certain which dimensions count tokens.

    tokens = tokens_of(model)              Tokens(count=197, besides=1), from a softmax over [.., heads, 197, 197]
    stretched(graph, tokens, wanted=394)   every dimension of 197 is one of 394, and the image before it as much larger

Nothing is run and constants keep their values: the result is good for prices alone. That a dimension of this size counts tokens
is proven on the model: each operator is inferred again on the new shapes of its operands, and has to give the new shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import fx

from mpcc.errors import UsageError

from .info import KEY, input_of
from .nn import PRODUCTS, SITES, shape_of, size_of
from .online import gather
from .trace import infer

aten = torch.ops.aten
SHAPED = (aten.reshape.default, aten.expand.default)
"""Views that state the shape of what they give."""
ROWS = 3
"""Dimensions of what softmax is over: [.., queries, keys]. One of fewer is no attention."""


@dataclass(frozen=True)
class Tokens:
    """How many tokens a model has, and how many `besides` the patches of its image (a class token)."""

    count: int
    besides: int


def tokens_of(model: fx.GraphModule) -> Tokens:
    """The tokens of a model at the nn level. UsageError says why that is not known, or not without doubt."""
    graph = model.graph
    lengths = {shape_of(n)[-1] for n in graph.nodes if n.target is SITES["softmax"] and len(shape_of(n)) >= ROWS}
    if len(lengths) != 1:
        raise UsageError("it has no softmax over tokens" if not lengths else "its softmaxes are over rows of different lengths")
    (count,) = lengths
    if any(count in _own_weight(node) for node in graph.nodes):
        raise UsageError(f"{count} is the number of its tokens and a width of its layers")
    born = _born(graph, count)
    if len(born) != 1 and any(node.op == "call_function" for node in born):
        raise UsageError(f"sizes of {count} that are no tokens cannot be told from those that are")
    tokens = Tokens(count, _besides(born[0], count))
    _prove(graph, stretched(graph, tokens, 2 * count), tokens)
    return tokens


def stretched(graph: fx.Graph, tokens: Tokens, wanted: int) -> fx.Graph:
    """A copy, at any level, with so many tokens. UsageError where part of them is cut off, as in a tree of comparisons."""
    made = fx.Graph()
    made.output(made.graph_copy(graph, {}))
    flow = _flow(graph)
    image = _before(_born(graph, tokens.count), flow)
    patches = (wanted - tokens.besides) / (tokens.count - tokens.besides)
    for old, new in zip(graph.nodes, made.nodes, strict=True):
        if old.op == "output":
            continue
        _refuse_parts(old, tokens.count)
        shape = [wanted if size == tokens.count else size for size in shape_of(old)]
        if old in image and shape:
            shape[-1] = ceil(shape[-1] * patches)
        new.meta["val"] = torch.empty(shape, dtype=old.meta["val"].dtype, device="meta")
        if old.target in SHAPED:
            new.args = (new.args[0], shape)
    return made


def _own_weight(node: fx.Node) -> tuple[int, ...]:
    """The shape of a product's weight; () where it multiplies two values."""
    weight = node.args[1] if node.target in PRODUCTS else None
    return shape_of(weight) if isinstance(weight, fx.Node) and weight.op == "get_attr" else ()


def _flow(graph: fx.Graph) -> set[fx.Node]:
    """What depends on an input of the model: not constants, weights, shares of the dealer's values."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        given = node.op == "placeholder" and (KEY not in node.meta or input_of(node) is not None)
        if node.op != "output" and (given or not found.isdisjoint(node.all_input_nodes)):
            found.add(node)
    return found


def _born(graph: fx.Graph, count: int) -> list[fx.Node]:
    """Where tokens come into being: what has them of what has none."""
    flow = _flow(graph)
    grown = {node for node in flow if count in shape_of(node)}
    return [node for node in graph.nodes if node in grown and grown.isdisjoint(node.all_input_nodes)]


def _before(born: list[fx.Node], flow: set[fx.Node]) -> set[fx.Node]:
    """The image and what is made of it until there are tokens."""
    found: set[fx.Node] = set()
    ahead = [one for node in born for one in node.all_input_nodes]
    while ahead:
        node = ahead.pop()
        if node in flow and node not in found:
            found.add(node)
            ahead += node.all_input_nodes
    return found


def _besides(born: fx.Node, count: int) -> int:
    """Of [class token, patches] joined: the tokens that are not the longest part."""
    if born.target is not aten.cat.default:
        return 0
    dim = shape_of(born).index(count)
    return count - max(shape_of(part)[dim] for part in born.all_input_nodes)


def _refuse_parts(node: fx.Node, count: int) -> None:
    """One of the tokens is one of however many. Half of them, or some that are listed, say nothing about more of them."""
    source: Any = node.all_input_nodes[0] if node.all_input_nodes else None
    if node.target is aten.slice.Tensor and count in shape_of(source):
        pairs = zip(shape_of(source), shape_of(node), strict=True)
        if any(before == count and after not in (1, count) for before, after in pairs):
            raise UsageError(f"it works on a part of its {count} tokens", where=node.name)
    if node.target in (aten.index.Tensor, gather) and count in shape_of(source) and count not in shape_of(node):
        if size_of(node) * count > size_of(source):
            raise UsageError(f"it picks some of its {count} tokens", where=node.name)


def _prove(graph: fx.Graph, copy: fx.Graph, tokens: Tokens) -> None:
    """UsageError unless every operator on tokens gives, on the new shapes, what was assumed."""
    flow = _flow(graph)
    grown = {node for node in flow if tokens.count in shape_of(node)}
    for old, new in zip(graph.nodes, copy.nodes, strict=True):
        if old.op != "call_function" or grown.isdisjoint(old.all_input_nodes):
            continue
        try:
            fits = tuple(infer(new).shape) == shape_of(new)
        except (RuntimeError, IndexError, TypeError, ValueError):
            fits = False
        if not fits:
            raise UsageError(f"its shapes are tied to {tokens.count} tokens", where=old.name)
