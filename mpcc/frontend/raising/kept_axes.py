"""Norms and softmaxes as JAX writes them: reductions keep their axes where these are given back, weights come last.

    reshape(sum(x, [1]), [n, 1])                       ->  sum(x, [1], keepdim)
    reshape(mean(x^2, [1]) - mean(x, [1])^2, [n, 1])   ->  mean(x^2, [1], keepdim) - mean(x, [1], keepdim)^2
    (x - mean) * (rsqrt(variance) * weight)            ->  ((x - mean) * rsqrt(variance)) * weight
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from mpcc.ir.nn import insert, shape_of

from .regions import ELEMENTWISE

aten = torch.ops.aten
REDUCTIONS = {aten.mean.dim, aten.sum.dim_IntList, aten.amax.default}
FACTORS = {aten.rsqrt.default, aten.reciprocal.default}
MADE_BY = "raise_kept_axes"
Made = dict[tuple[fx.Node, tuple[int, ...]], fx.Node]


def keep_axes(graph: fx.Graph) -> None:
    """Rewrite in place; what nothing reads any more is left for the caller."""
    made: Made = {}
    for node in list(graph.nodes):
        if node.target is not aten.reshape.default:
            continue
        source: Any = node.args[0]
        wanted = shape_of(node)
        if _fits(source, wanted):
            with graph.inserting_before(node):
                node.replace_all_uses_with(_kept(graph, source, wanted, made))


def put_weights_last(graph: fx.Graph) -> None:
    """Rewrite in place: of a value, a factor of its rows and a parameter, the parameter is multiplied last."""
    for node in list(graph.nodes):
        if node.target is not aten.mul.Tensor:
            continue
        for value, scaled in (node.args, node.args[::-1]):
            if not isinstance(value, fx.Node) or not isinstance(scaled, fx.Node) or scaled.target is not aten.mul.Tensor:
                continue
            weights = [one for one in scaled.args if isinstance(one, fx.Node) and one.op == "get_attr"]
            factors = [one for one in scaled.args if isinstance(one, fx.Node) and one.target in FACTORS]
            if len(scaled.users) == 1 and weights and factors and shape_of(value) == shape_of(node) != shape_of(factors[0]):
                with graph.inserting_before(node):
                    row = insert(graph, aten.mul.Tensor, (value, factors[0]), like=scaled, made_by=MADE_BY)
                    last = insert(graph, aten.mul.Tensor, (row, weights[0]), like=node, made_by=MADE_BY)
                node.replace_all_uses_with(last)
                break


def _fits(node: Any, wanted: tuple[int, ...]) -> bool:
    """Whether `node` is made by elementwise operators of reductions that would all have the wanted shape with their axes kept."""
    if not isinstance(node, fx.Node) or node.op != "call_function":
        return False
    if node.target in REDUCTIONS:
        return not _keeps(node) and _shape_kept(node) == wanted
    return node.target in ELEMENTWISE and all(_fits(one, wanted) for one in node.all_input_nodes)


def _keeps(node: fx.Node) -> bool:
    return len(node.args) > 2 and bool(node.args[2])


def _shape_kept(node: fx.Node) -> tuple[int, ...]:
    source, dims = node.args[:2]
    assert isinstance(source, fx.Node) and isinstance(dims, (list, tuple))
    sizes = shape_of(source)
    gone = {dim % len(sizes) for dim in dims if isinstance(dim, int)}
    return tuple(1 if dim in gone else size for dim, size in enumerate(sizes))


def _kept(graph: fx.Graph, node: fx.Node, wanted: tuple[int, ...], made: Made) -> fx.Node:
    if (node, wanted) not in made:
        if node.target in REDUCTIONS:
            args: tuple[Any, ...] = (*node.args[:2], True)
        else:
            args = tuple(_kept(graph, one, wanted, made) if isinstance(one, fx.Node) else one for one in node.args)
        made[node, wanted] = insert(graph, node.target, args, like=node, made_by=MADE_BY)
    return made[node, wanted]
