"""Which values of a graph cannot be negative, whatever the input: proven from the operators alone, at both levels.

relu(s) -> sum -> + 1e-5          proven: a reciprocal of it needs no sign
a weight that happens to be > 0   not proven: its sign is the server's secret
"""

from __future__ import annotations

from torch.fx import Graph, Node

from . import mpc

_ALWAYS = {"exp", "sigmoid", "softmax", "relu", "abs", "square", "hardsigmoid", "sqrt", "rsqrt", "less"}
_KEEPS = {"sum", "mean", "avg_pool2d", "amax", "max_pool2d", "reciprocal", "sqrt"}
_JOINS = {"add", "mul", "div", "scale", "select", "maximum"}


def nonnegative(graph: Graph) -> set[Node]:
    """The nodes whose every element is proven to be at least 0 (a sound rule, not a complete one)."""
    proven: set[Node] = set()
    for node in graph.nodes:
        if node.op == "call_function" and _proven(node, proven):
            proven.add(node)
    return proven


def _proven(node: Node, proven: set[Node]) -> bool:
    packet = getattr(node.target, "overloadpacket", node.target)
    name = str(getattr(packet, "__name__", ""))

    def known(value: object) -> bool:
        if isinstance(value, int | float):
            return value >= 0
        return isinstance(value, Node) and value in proven

    if node.target in mpc.VIEWS:
        tensors = node.all_input_nodes if name != "index" else node.all_input_nodes[:1]
        padding = node.args[2] if name == "constant_pad_nd" and len(node.args) > 2 else 0
        return all(tensor in proven for tensor in tensors) and known(padding)
    if name in _ALWAYS:
        return True
    if name in _KEEPS:
        return known(node.args[0])
    if name == "mul" and node.args[0] is node.args[1]:
        return True
    if name == "pow":
        exponent = node.args[1]
        return (isinstance(exponent, int) and exponent % 2 == 0) or known(node.args[0])
    if name == "clamp":
        lowest = node.args[1] if len(node.args) > 1 else None
        return (isinstance(lowest, int | float) and lowest >= 0) or known(node.args[0])
    return name in _JOINS and len(node.args) >= 2 and known(node.args[0]) and known(node.args[1])
