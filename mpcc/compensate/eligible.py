"""Which products may get new weights: those with a constant weight that no other layer reads and that belongs to the owner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container

import torch
from torch import fx

from mpcc.ir.nn import PUBLIC

from .rows import bias_of, weight_of


def eligible(graph: fx.Graph, secret: Container[fx.Node], affected: Container[fx.Node]) -> tuple[list[fx.Node], dict[str, str]]:
    """(the products among `affected` that may, in order; weight -> why not, for the others). `secret` depends on the inputs."""
    used = Counter(str(node.target) for node in graph.nodes if node.op == "get_attr" for _ in node.users)
    found, skipped = list[fx.Node](), dict[str, str]()
    for node in graph.nodes:
        weight = weight_of(node) if node.op == "call_function" else None
        if node.op != "call_function" or node not in affected or not node.args or node.args[0] not in secret:
            continue
        if weight is None:
            if node.target is torch.ops.aten.convolution.default:
                skipped[node.name] = "a convolution of this kind is not solved"
            continue
        name, bias = str(weight.target), bias_of(node)
        if used[name] > 1 or (bias is not None and used[str(bias.target)] > 1):
            skipped[name] = "its weights are shared by several layers"
        elif weight.meta.get(PUBLIC) or (bias is not None and bias.meta.get(PUBLIC)):
            skipped[name] = "it is public, and new weights would tell of the inputs"
        else:
            found.append(node)
    return found, skipped
