"""Which way each opening travels, read off the graph: what one party knows already, or has no use for, is not sent in a round.

    both         each party sends its part of the masked value, and both know it
    to_server    only products with the server's weights use it, and of these the client's share is -[r W]: it need not know c
    ahead        the client's part is known before the input, since it comes from such products alone: it is sent then, and in
                 the round the server sends its own

A part that is not sent is one that the other party would not look at, or has already. What is sent is masked as ever: c + r where
the listener does not know the sender's share of r.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import fx

from mpcc.ir import mpc, online
from mpcc.ir.info import Way, input_of

LOCAL = frozenset(
    {online.times, online.combine, online.add_public, online.add_weight, online.total, online.gather, online.apply_mask,
     online.scale_rows, online.public_product, online.weight_share, online.truncate_locally, online.mask_with}
) | frozenset(mpc.VIEWS)  # fmt: skip
"""Kernels whose shares depend on shares of their operands only, and on what the server alone adds."""


def known_to_client(graph: fx.Graph) -> set[fx.Node]:
    """The values of which the client's share depends on correlated randomness only."""
    known: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder":
            ready = input_of(node) is None
        elif node.op == "call_function":
            local = node.target in LOCAL and all(one in known for one in node.all_input_nodes)
            ready = local or node.target in (online.weight_product, online.mask_weight_product, online.open_weight)
        else:
            ready = False
        if ready:
            known.add(node)
    return known


def way_of(opened: fx.Node, known: set[fx.Node]) -> Way:
    """The way of an arithmetic opening."""
    users = list(_users(opened))
    if users and all(user.target is online.weight_product for user in users):
        return "to_server"
    return "ahead" if opened.args[0] in known else "both"


def _users(opened: fx.Node) -> Iterator[fx.Node]:
    """What uses an opened value, views passed over."""
    for user in opened.users:
        if user.target in mpc.VIEWS:
            yield from _users(user)
        else:
            yield user


def needed_ahead(graph: fx.Graph, ahead: set[Any]) -> set[fx.Node]:
    """The values that the client computes before the input, for its parts of the openings `ahead`."""
    found, waiting = set[fx.Node](), [node for node in graph.nodes if node in ahead]
    while waiting:
        node = waiting.pop()
        sources = [node.args[3]] if node.target is online.weight_product else node.all_input_nodes
        for source in sources:
            if isinstance(source, fx.Node) and source not in found and source.op == "call_function":
                found.add(source)
                waiting.append(source)
    return found
