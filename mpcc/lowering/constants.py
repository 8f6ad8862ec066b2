"""What depends on parameters only, who knows it, and which values are opened for the sake of what is secret.

    linear(x, W), W secret     x is opened, at least to the server
    linear(x, W), W public     each party multiplies its own share; nothing is opened
                               what is opened anyway is multiplied by W as it is: the client's share of that, -[r] W, is known
                               before the input, so that its part of the next opening is not sent in a round (`program.ways`)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx

from mpcc.ir import mpc
from mpcc.ir.nn import PUBLIC, WHOLE_VIEWS, attribute

from .values import Constant

PRODUCTS = frozenset({mpc.mul, mpc.matmul, mpc.linear, mpc.conv})
OPENING = frozenset({mpc.square, mpc.polynomial, mpc.curve, mpc.less, mpc.select})


def constants_of(module: fx.GraphModule) -> dict[fx.Node, Constant]:
    """Parameters, and what is computed of nothing else: public where all of these are."""
    found: dict[fx.Node, Constant] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            value = attribute(module, str(node.target)).detach()
            found[node] = Constant(str(node.target), value, bool(node.meta.get(PUBLIC)))
        elif node.op == "call_function" and node.all_input_nodes and all(n in found for n in node.all_input_nodes):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: found[n].value)
            with torch.no_grad():
                value = node.target(*args, **kwargs)
            public = all(found[one].public for one in node.all_input_nodes)
            found[node] = Constant(f"folded.{node.name}", value.detach().contiguous(), public)
    return found


def opened_anyway(graph: fx.Graph, constants: Mapping[fx.Node, Constant]) -> frozenset[fx.Node]:
    """The values that something else than a product with a public tensor opens, as they are or as views of themselves."""
    found: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if any(_opens(user, constants) or (_shows(user) and user in found) for user in node.users):
            found.add(node)
    for node in graph.nodes:
        if _shows(node) and node.args[0] in found:
            found.add(node)
    return frozenset(found)


def _opens(user: fx.Node, constants: Mapping[fx.Node, Constant]) -> bool:
    if user.target in PRODUCTS:
        return not any(constants[one].public for one in user.all_input_nodes[:2] if one in constants)
    return user.target in OPENING


def _shows(node: fx.Node) -> bool:
    """Whether a node has the opening of its operand: at another scale, or in another order."""
    return node.target is mpc.scale or node.target in WHOLE_VIEWS
