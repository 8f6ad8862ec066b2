"""When each value of an mpc-level graph is ready: in how many rounds, as far as the graph tells.

    depths(graph)[node]     the rounds before the shares of `node` are there; inputs and parameters are at 0

Every primitive that opens its operands takes a round, a comparison two. Lowering may need more (a truncation through an opening),
never fewer, and adds about as many to either side of what a pass compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from mpcc.ir import mpc

ROUNDS: Mapping[Any, int] = {
    **dict.fromkeys((mpc.mul, mpc.square, mpc.polynomial, mpc.curve, mpc.matmul, mpc.linear, mpc.conv, mpc.select), 1),
    mpc.less: 2,
}


def depths(graph: fx.Graph) -> dict[fx.Node, int]:
    """The round after which each value is there."""
    found: dict[fx.Node, int] = {}
    constant: set[fx.Node] = set()
    for node in graph.nodes:
        operands = node.all_input_nodes
        if node.op == "get_attr" or (node.op == "call_function" and all(one in constant for one in operands)):
            constant.add(node)
        own = ROUNDS.get(node.target, 0) if node not in constant else 0
        found[node] = max((found[one] for one in operands), default=0) + own
    return found
