"""What depends on parameters only is computed at compile time: it becomes a parameter. Exact.

    linear(x, mul(w, g))                 ->  linear(x, w_mul)
    add(x, pos[:, 1:] + offset)          ->  add(x, pos_add)
    div(x, w)                            ->  mul(x, w_reciprocal)        secure division has no constant form

A secure product of two weights would cost two openings. What is only moved about stays unless it gets no bigger (a
relative position table that is gathered into all pairs, a class token repeated for the batch: free views of a
weight). The new parameter is trainable if one that it was made from is.
"""

from __future__ import annotations

import math

import torch
from torch import fx

from mpcc.ir.nn import VIEWS, shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.constants import cone, constant_nodes, evaluate, fold, source_of, sources_of
from mpcc.rewrite.edit import Edit

aten = torch.ops.aten
NAME = "fold_constants"


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    return [*invert_divisors(graph_module), *fold(graph_module, NAME, worth)]


def worth(node: fx.Node) -> bool:
    """Computed, or moved about without becoming bigger than what it was made of."""
    if any(n.op == "call_function" and n.target not in VIEWS for n in cone(node)):
        return node.target is not aten.expand.default
    return math.prod(shape_of(node)) <= sum(math.prod(shape_of(s)) for s in sources_of(node))


def invert_divisors(graph_module: fx.GraphModule) -> list[str]:
    """x / constant tensor -> x * its reciprocal."""
    edit = Edit(graph_module, NAME)
    constant = constant_nodes(graph_module.graph)
    for node in list(graph_module.graph.nodes):
        if node.target is not aten.div.Tensor or node in constant or node.args[1] not in constant:
            continue
        x, divisor = node.args
        assert isinstance(divisor, fx.Node)
        source = source_of(edit, divisor)
        value, name = evaluate(edit, divisor).reciprocal(), f"{source.target}_reciprocal"
        inverse = edit.parameter(node, value, source, name, made_of=sources_of(divisor))
        edit.replace(node, edit.call(node, aten.mul.Tensor, x, inverse, like=node))
    return edit.finish()


FOLD_CONSTANTS = Pass(
    name=NAME,
    graph="nn",
    rewrite=rewrite,
    source="constant folding (e.g. onnx/onnxscript: onnxscript/optimizer/_constant_folding.py)",
    summary="Computes at compile time what depends on parameters only.",
)
