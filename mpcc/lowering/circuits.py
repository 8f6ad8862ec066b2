"""An mpc graph -> a circuit for another engine, with its weights; and back, as a graph that computes and has a price.

    made = circuit_of(graph, "aby3")               graph with `meta["range"]`
    made.circuit, made.weights                  -> Circuit, {"head.weight": tensor}
    graph_of(made.circuit)                      -> GraphModule over mpc primitives; weights are zero unless given
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.errors import BundleError
from mpcc.ir import mpc
from mpcc.ir.circuit import FRACTION_BITS, Circuit, Given, Opened, Ref, Step, with_values
from mpcc.ir.names import register
from mpcc.ir.nn import attribute, shape_of
from mpcc.ir.trace import Recorder

from .fixed_scale import scaled

RING_BITS = 64
MARGIN = 8.0
"""Times what calibration saw, which values must fit: as `lowering.max_scale_bits` leaves for sums, and a bit for truncations."""
MOST_BITS = 20
"""Fraction bits where there is room: two more than SPU takes by itself; its constants are float32, of 24 bits."""


@dataclass(frozen=True)
class Made:
    """A circuit, and the server's weights by the names that it has for them."""

    circuit: Circuit
    weights: Mapping[str, Tensor]


def circuit_of(source: fx.GraphModule, protocol: str) -> Made:
    """The circuit of an mpc graph, at as many fraction bits as its ranges leave room for."""
    made = scaled(source)
    room = math.floor((RING_BITS - 2 - math.log2(max(made.largest, 1.0) * MARGIN)) / 2)
    bits = max(min(room, MOST_BITS), FRACTION_BITS.start)
    nodes = list(made.graph.graph.nodes)
    read = [node for node in nodes if node.op == "get_attr"]
    asked = [node for node in nodes if node.op == "placeholder"]
    steps = [node for node in nodes if node.op == "call_function"]
    number = {node: Ref(i) for i, node in enumerate([*asked, *read, *steps])}
    output = next(node for node in nodes if node.op == "output").args[0]
    circuit = Circuit(
        protocol, bits,
        tuple(Given(str(node.target), shape_of(node), made.inputs[str(node.target)]) for node in asked),
        tuple(Given(str(node.target), shape_of(node)) for node in read),
        tuple(_step(node, number) for node in steps),
        tuple(Opened(number[one].value, scale) for one, scale in zip(output, made.outputs, strict=True)),
    )  # fmt: skip
    return Made(circuit, {str(node.target): attribute(made.graph, str(node.target)) for node in read})


def name_of(target: Any) -> str:
    """`mpc.add`, `aten.reshape.default`: what operations are called in circuits, and in an engine's table."""
    name = getattr(target, "__name__", "")
    return f"mpc.{name}" if mpc.PRIMITIVES.get(name) is target else str(target)


def _step(node: fx.Node, number: Mapping[fx.Node, Ref]) -> Step:
    def plain(value: Any) -> Any:
        if isinstance(value, fx.Node):
            return number[value]
        return tuple(map(plain, value)) if isinstance(value, list | tuple) else value

    return Step(name_of(node.target), plain(node.args), {name: plain(one) for name, one in node.kwargs.items()})


def graph_of(circuit: Circuit, weights: Mapping[str, Tensor] | None = None) -> fx.GraphModule:
    """The circuit as an mpc graph. BundleError where it fits no weights, or its operations do not fit each other."""
    root, graph, nodes = torch.nn.Module(), fx.Graph(), list[fx.Node]()
    recorder = Recorder(graph, {"layer": ""})
    for given in circuit.inputs:
        nodes.append(graph.placeholder(given.name))
        nodes[-1].meta["val"] = torch.empty(given.shape, device="meta")
    for given in circuit.weights:
        value = torch.zeros(given.shape) if weights is None else weights.get(given.name)
        if value is None or tuple(value.shape) != given.shape:
            raise BundleError(f"the weights lack {given.name!r} of shape {list(given.shape)}", where="circuit.json")
        nodes.append(graph.get_attr(register(root, given.name, value, trainable=False)))
        nodes[-1].meta["val"] = torch.empty(given.shape, device="meta")
    for place, step in enumerate(circuit.steps):
        try:
            args, kwargs = with_values(step.args, nodes), with_values(step.named, nodes)
            nodes.append(recorder.create_node("call_function", _function(step.operation), tuple(args), dict(kwargs)))
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
            said = str(error).splitlines()[0]
            raise BundleError(f"operation {place} ({step.operation}) does not fit: {said}", where="circuit.json") from None
    graph.output(tuple(nodes[one.value] for one in circuit.outputs))
    return fx.GraphModule(root, graph)


def _function(name: str) -> Any:
    """The function of an operation, whose name is one of `OPERATIONS` of mpcc.ir.circuit."""
    return FUNCTIONS[name]


FUNCTIONS: dict[str, Any] = {
    name_of(one): one for one in (*mpc.PRIMITIVES.values(), *mpc.VIEWS) if one not in (mpc.curve, torch.ops.aten.index.Tensor)
}
