"""In-place operators: their functional twins, and whether someone else still reads the memory that they write."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from .builder import IDENTITIES, VIEWS, operator_name

# Checks that tracing leaves behind; static shapes have settled them.
CHECKS = ("_assert", "sym_constrain", "_check")


VMAP = "torch._functorch.predispatch"
"""Where the calls are from that torch.vmap leaves in a program: an axis is hidden behind them."""


class NeedsFunctional(Exception):
    """A write that other views of the same memory see, or a hidden axis: the graph must be functionalised by torch first."""


def is_mutation(target: Any) -> bool:
    """Whether `target` writes its first argument (`add_`, `copy_`)."""
    schema = getattr(target, "_schema", None)
    if schema is None or operator_name(target) in IDENTITIES:
        return False
    alias = schema.arguments[0].alias_info if schema.arguments else None
    return alias is not None and bool(alias.is_write)


def functional_of(target: Any) -> Any:
    """aten.add.Tensor for aten.add_.Tensor."""
    packet = getattr(torch.ops.aten, operator_name(target).removesuffix("_"))
    overload = target._schema.overload_name or "default"
    return getattr(packet, overload, None) or packet.default


def conflicts(node: fx.Node) -> bool:
    """Whether a node after `node` reads memory that `node` writes, other than through `node` or its first argument."""
    written = node.args[0]
    assert isinstance(written, fx.Node)
    order = {other: place for place, other in enumerate(node.graph.nodes)}
    for alias in _aliases(written):
        older = alias is not written and order[alias] < order[node]  # what comes after the write sees its result
        if older and any(order[user] > order[node] for user in alias.users):
            return True
    return False


def written_memory(graph: fx.Graph) -> set[fx.Node]:
    """All nodes whose memory an in-place operator of `graph` may write."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "call_function" and is_mutation(node.target) and node not in found:
            found |= _aliases(node)
    return found


def _aliases(node: fx.Node) -> set[fx.Node]:
    """All nodes that may share memory with `node`: through views both ways."""
    seen: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        if _may_alias(current) and current.args and isinstance(current.args[0], fx.Node):
            waiting.append(current.args[0])
        waiting += [user for user in current.users if user.args and user.args[0] is current and _may_alias(user)]
    return seen


def _may_alias(node: fx.Node) -> bool:
    if node.op != "call_function":
        return False
    name = operator_name(node.target)
    if name in ("clone", "repeat", "cat", "stack", "roll", "flip", "index", "index_select", "constant_pad_nd"):
        return False
    return name in VIEWS or name in IDENTITIES or name == "to" or not name or is_mutation(node.target)
