"""Common subexpressions: equal calls of equal operands become one. Shared by the passes of both levels."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import fx

from mpcc.ir.nn import attribute, shape_of

from .edit import Edit
from .match import COMMUTATIVE

aten = torch.ops.aten
# Views that give their operand when nothing changes in shape.
IDENTITIES = frozenset({aten.reshape.default, aten.expand.default, aten.slice.Tensor, aten.constant_pad_nd.default})


def merge(graph_module: fx.GraphModule, name: str) -> list[str]:
    """Let all equal nodes be the first of them, and a view that changes nothing its operand."""
    edit = Edit(graph_module, name)
    first: dict[Hashable, fx.Node] = {}
    for node in list(graph_module.graph.nodes):
        if node.op not in ("get_attr", "call_function"):
            continue
        same = unchanged(node) or first.setdefault(key_of(graph_module, node), node)
        if same is not node:
            edit.replace(node, same)
    return edit.finish()


def unchanged(node: fx.Node) -> fx.Node | None:
    """The operand of a view that keeps every value where it is."""
    operand = node.args[0] if node.args else None
    if not isinstance(operand, fx.Node):
        return None
    if node.target in IDENTITIES and shape_of(node) == shape_of(operand):
        return operand if node.target is not aten.constant_pad_nd.default or not any(node.args[1]) else None  # type: ignore[arg-type]
    if node.target is aten.permute.default:
        order: Any = node.args[1]
        return operand if [d % len(order) for d in order] == list(range(len(order))) else None
    return None


def key_of(graph_module: fx.GraphModule, node: fx.Node) -> Hashable:
    """Equal for nodes that compute the same; parameters are the same if they are one tensor."""
    if node.op == "get_attr":
        return "get_attr", id(attribute(graph_module, str(node.target)))
    args: list[Any] = list(node.args)
    if node.target in COMMUTATIVE and all(isinstance(a, fx.Node) for a in args):
        args.sort(key=lambda n: n.name)
    return node.target, _frozen(args), _frozen(sorted(node.kwargs.items()))


def _frozen(value: Any) -> Hashable:
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(v) for v in value)
    return value if isinstance(value, fx.Node) else (type(value).__name__, value)
