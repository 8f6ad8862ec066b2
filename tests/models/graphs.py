"""Graphs for the tests: written as a function over operators, or captured from a small Vision Transformer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from mpcc import registry
from mpcc.ir.nn import meta_tensor, name_sites
from mpcc.ir.trace import Recorder

Function = Callable[..., Any]


def graph_of(function: Function, shapes: dict[str, tuple[int, ...]], **parameters: Tensor) -> fx.GraphModule:
    """The graph of `function(**inputs, **parameters)`; a parameter called `fc_weight` becomes `fc.weight`.

    Every node belongs to the layer `layer`; on the nn level its sites are named.
    """
    root, graph = nn.Module(), fx.Graph()
    operands: dict[str, fx.Node] = {}
    for name, shape in shapes.items():
        operands[name] = graph.placeholder(name)
        operands[name].meta["val"] = torch.empty(shape, device="meta")
    for name, value in parameters.items():
        target = name.replace("_", ".")
        home = root
        for part in target.split(".")[:-1]:
            if not hasattr(home, part):
                home.add_module(part, nn.Module())
            home = getattr(home, part)
        leaf = target.split(".")[-1]
        if value.is_floating_point():
            setattr(home, leaf, nn.Parameter(value))
        else:
            home.register_buffer(leaf, value)
        operands[name] = graph.create_node("get_attr", target)
        operands[name].meta.update({"val": meta_tensor(value), "layer": "layer"})
    result = Recorder(graph, {"layer": "layer", "made_by": ()}).call(function, **operands)
    graph.output(result)
    name_sites(graph)
    return fx.GraphModule(root, graph)


def inputs_for(graph_module: fx.GraphModule, seed: int = 0) -> list[Tensor]:
    """Random inputs of the shapes of the placeholders."""
    generator = torch.Generator().manual_seed(seed)
    nodes = [n for n in graph_module.graph.nodes if n.op == "placeholder"]
    return [torch.randn(tuple(n.meta["val"].shape), generator=generator) for n in nodes]


def rewritten(graph_module: fx.GraphModule, *names: str) -> fx.GraphModule:
    """A copy after the passes of those names; asserts that its results stay."""
    changed = copy.deepcopy(graph_module)
    for name in names:
        registry.pass_(name)(changed)
    assert_same(graph_module, changed)
    return changed


def assert_same(before: fx.GraphModule, after: fx.GraphModule) -> None:
    """Equal results to six digits or so: the same real function, summed in another order in float64."""
    inputs = [x.double() for x in inputs_for(before)]
    with torch.no_grad():
        expected, got = copy.deepcopy(before).double()(*inputs), copy.deepcopy(after).double()(*inputs)
    torch.testing.assert_close(got, expected, rtol=2e-6, atol=2e-6)


def calls(graph_module: fx.GraphModule, target: Any) -> list[fx.Node]:
    """The calls of one operator."""
    return [n for n in graph_module.graph.nodes if n.op == "call_function" and n.target is target]


def shapes(graph_module: fx.GraphModule, target: Any) -> list[tuple[int, ...]]:
    """The shapes of what the calls of one operator give."""
    return [tuple(n.meta["val"].shape) for n in calls(graph_module, target)]


def changed_by(graph_module: fx.GraphModule, name: str) -> bool:
    """Whether the pass of that name would change the graph."""
    return bool(registry.pass_(name)(copy.deepcopy(graph_module)).modified)
