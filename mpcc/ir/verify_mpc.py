"""What a valid mpc graph is: primitives and views only, true static shapes, a layer each, ranges where lowering needs them."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any

import torch
from torch import fx

from mpcc.errors import InvalidGraph

from . import mpc
from .nn import attribute, attribute_faults, describe, shape_of
from .shapes import broadcast
from .trace import infer
from .value_range import EXAMPLES

KNOWN = frozenset(mpc.PRIMITIVES.values()) | mpc.VIEWS
BROADCAST = frozenset({mpc.add, mpc.sub, mpc.mul, mpc.select})
SAME = frozenset({mpc.scale, mpc.square, mpc.polynomial, mpc.curve, mpc.less, mpc.apply_mask, mpc.scale_rows})
FAULTS = (RuntimeError, IndexError, TypeError, ValueError, ArithmeticError, AssertionError)
"""What torch raises for arguments that do not fit an operator."""


def verify(graph_module: fx.GraphModule, *, ranges: bool = False) -> None:
    """InvalidGraph, naming the node and its layer, unless `graph_module` obeys every rule of the mpc level.

    `ranges`: every value that depends on the input has a calibrated range, and the graph the inputs of some calls, as lowering
    needs them.
    """
    seen: set[fx.Node] = set()
    secret: set[fx.Node] = set()
    for node in graph_module.graph.nodes:
        if node.op == "placeholder" or any(source in secret for source in node.all_input_nodes):
            secret.add(node)
        for complaint in _complaints(graph_module, node, seen, ranges and node in secret):
            raise InvalidGraph(complaint, where=describe(node))
        seen.add(node)
    if ranges and not graph_module.meta.get(EXAMPLES):
        raise InvalidGraph("the inputs of its calibration are missing: run record_ranges on the mpc graph first")


def _complaints(graph_module: fx.GraphModule, node: fx.Node, seen: set[fx.Node], ranges: bool) -> Iterator[str]:
    late = [source.name for source in node.all_input_nodes if source not in seen]
    if late:
        yield f"{late[0]} is read before it is computed"
    if node.op == "output":
        return
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        yield 'meta["val"] is not a tensor'
    elif any(not isinstance(size, int) for size in value.shape):
        yield f"the shape {tuple(value.shape)} is not static"
    elif node.op == "call_function":
        yield from _call(node)
    elif node.op == "get_attr":
        yield from _parameter(graph_module, node)
    elif node.op != "placeholder":
        yield f"{node.op} nodes do not belong to the mpc level"
    if ranges:
        yield from _range(node)


def _call(node: fx.Node) -> Iterator[str]:
    target: Any = node.target
    if target not in KNOWN:
        yield f"{target} is not a primitive of the mpc level"
        return
    if not isinstance(node.meta.get("layer"), str):
        yield 'meta["layer"] is missing'
    try:
        found = _shape(node)
    except FAULTS as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        yield f"the arguments do not fit {getattr(target, '__name__', target)}: {reason}"
        return
    if found != shape_of(node):
        yield f"the shape is {list(found)}, not {list(shape_of(node))}"


def _shape(node: fx.Node) -> tuple[int, ...]:
    """By rule where that is as good as trying: a graph has these by the thousand."""
    operands = node.all_input_nodes
    if node.target in SAME and len(operands) == 1:
        return shape_of(operands[0])
    if node.target in BROADCAST and not node.kwargs and operands:
        return broadcast([shape_of(operand) for operand in operands])
    return tuple(infer(node).shape)


def _parameter(graph_module: fx.GraphModule, node: fx.Node) -> Iterator[str]:
    faults = list(attribute_faults(graph_module, node))
    yield from faults
    if faults:
        return
    value = attribute(graph_module, str(node.target))
    if tuple(value.shape) != shape_of(node):
        yield f"the shape is {list(value.shape)}, not {list(shape_of(node))}"


def _range(node: fx.Node) -> Iterator[str]:
    found = node.meta.get("range")
    if found is None:
        yield "no calibrated range: run record_ranges on the mpc graph first"
    elif not (isfinite(found.low) and isfinite(found.high) and isfinite(found.rms) and found.low <= found.high):
        yield f"the calibrated range {found.low:g} .. {found.high:g} is not a range"
