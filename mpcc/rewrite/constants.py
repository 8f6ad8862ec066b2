"""Constant subgraphs: what depends on parameters only is computed at compile time. For both levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, fx

from mpcc.ir.nn import shape_of

from .edit import Edit


def constant_nodes(graph: fx.Graph) -> set[fx.Node]:
    """Parameters, and every call that depends on nothing else."""
    constant: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "get_attr" or (node.op == "call_function" and all(n in constant for n in node.all_input_nodes)):
            constant.add(node)
    return constant


def fold(graph_module: fx.GraphModule, name: str, worth: Callable[[fx.Node], bool]) -> list[str]:
    """Replace by a parameter every constant node that is worth it and is read by more than other such nodes."""
    edit = Edit(graph_module, name)
    constant = constant_nodes(graph_module.graph)
    calls = [node for node in graph_module.graph.nodes if node in constant and node.op == "call_function"]
    folded = {node for node in calls if worth(node)}
    needed: set[fx.Node] = set()  # read by something that stays
    for node in reversed(calls):
        if any(user not in constant or (user in needed and user not in folded) for user in node.users):
            needed.add(node)
    for node in calls:
        if node in folded and node in needed:
            value, source = evaluate(edit, node), source_of(edit, node)
            name = f"{source.target}_{node.name}"
            edit.replace(node, edit.parameter(node, value, source, name, made_of=sources_of(node)))
    return edit.finish()


def source_of(edit: Edit, node: fx.Node) -> fx.Node:
    """The parameter of its dtype that `node` depends on: one that is trained, the biggest one."""
    sources = sources_of(node)
    same = [s for s in sources if s.meta["val"].dtype == node.meta["val"].dtype] or sources
    return max(same, key=lambda s: (edit.trains(s), math.prod(shape_of(s)), str(s.target)))


def is_constant(value: Any) -> bool:
    """Whether a value depends on parameters only. It looks no further than to the first input: passes ask this of most nodes."""
    if not isinstance(value, fx.Node):
        return False
    seen: set[fx.Node] = set()
    stack = [value]
    while stack:
        node = stack.pop()
        if node.op not in ("get_attr", "call_function"):
            return False
        if node not in seen:
            seen.add(node)
            stack += node.all_input_nodes
    return True


def sources_of(node: fx.Node) -> list[fx.Node]:
    """The parameters that a constant node depends on."""
    return [n for n in cone(node) if n.op == "get_attr"]


def cone(node: fx.Node) -> list[fx.Node]:
    """`node` and all that it depends on, operands first."""
    found: dict[fx.Node, None] = {}
    stack = [node]
    while stack:
        top = stack[-1]
        waiting = [n for n in top.all_input_nodes if n not in found]
        if waiting:
            stack += waiting
        else:
            found[stack.pop()] = None
    return list(found)


def evaluate(edit: Edit, node: fx.Node) -> Tensor:
    """The value of a constant node, computed in float64."""
    values: dict[fx.Node, Tensor] = {}
    for n in cone(node):
        if n.op == "get_attr":
            value = edit.tensor(n)
            values[n] = value.double() if value.is_floating_point() else value
        else:
            args, kwargs = fx.node.map_arg((n.args, n.kwargs), lambda a: values[a])
            values[n] = n.target(*args, **kwargs)  # type: ignore[operator]
    return values[node]
