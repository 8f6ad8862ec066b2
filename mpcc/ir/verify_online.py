"""What a valid online or dealer graph is: operations of its level on arguments of their kinds, true shapes, an Info each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx

from mpcc.errors import InvalidGraph

from .info import KEY, Info
from .opcodes import BY_FUNCTION, Opcode, value_of


def verify(graph: fx.Graph, table: Mapping[str, Opcode]) -> None:
    """InvalidGraph, naming the node and its layer, unless `graph` obeys every rule of the level (`opcodes.ONLINE`, `DEALER`)."""
    nodes: dict[Any, fx.Node] = {}
    names: set[str] = set()
    for node in graph.nodes:
        for complaint in _complaints(node, table, nodes):
            raise InvalidGraph(complaint, where=describe(node))
        if node.name in names:
            raise InvalidGraph("the name is taken by an earlier node", where=describe(node))
        names.add(node.name)
        nodes[node] = node


def describe(node: fx.Node) -> str:
    """How messages call a node: its name, and the user's layer."""
    info = node.meta.get(KEY)
    layer = info.origin.layer if isinstance(info, Info) else ""
    return f"node {node.name} in layer {layer}" if layer else f"node {node.name}"


def _complaints(node: fx.Node, table: Mapping[str, Opcode], nodes: Mapping[Any, fx.Node]) -> Iterator[str]:
    if node.op == "output":
        return
    value = node.meta.get("val")
    if not isinstance(node.meta.get(KEY), Info):
        yield 'meta["info"] is missing'
    elif not isinstance(value, torch.Tensor):
        yield 'meta["val"] is not a tensor'
    elif value.dtype is not torch.int64:
        yield f"a value of {value.dtype}: rings are made of torch.int64"
    elif node.op == "call_function":
        yield from _call(node, table, nodes)
    elif node.op != "placeholder":
        yield f"{node.op} nodes do not belong to a program"


def _call(node: fx.Node, table: Mapping[str, Opcode], nodes: Mapping[Any, fx.Node]) -> Iterator[str]:
    target: Any = node.target
    opcode = BY_FUNCTION.get(target)
    if opcode is None or table.get(opcode.name) is not opcode:
        yield f"{target} is not an operation of this level"
        return
    if node.kwargs:
        yield f"{opcode.name} takes no keyword arguments"
    try:
        opcode.read(node.args, nodes)
        found = value_of(opcode, node)
    except ValueError as error:
        yield f"{opcode.name}: {error}"
        return
    if found.shape != node.meta["val"].shape:
        yield f"{opcode.name} gives the shape {list(found.shape)}, not {list(node.meta['val'].shape)}"
