"""Choices made site by site in the order of the graph, each fitted to what its site sees under the choices before it.

    plan = fit_sequentially(graph, inputs, lambda seen: Choice("softmax_relu", ...), registry.approximations())

A structural choice changes what later layers compute, so a fit to the original activations would not hold there. One
pass over the calibration inputs, a node at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.approximate import Approximation, Choice, Plan, SiteStatistics, Split
from mpcc.approximate.expand import site_function
from mpcc.errors import RangeError
from mpcc.ir.nn import attribute, is_site, size_of

from .calibrate import seen_at, statistics_of, stretch_of
from .quantities import site_of
from .ranges import ELEMENTS_AT_ONCE, Inputs, stack_calls

LARGEST = 2.0**31
"""The square of a larger value does not fit into 64 bits."""
Choose = Callable[[SiteStatistics], Choice | Split]


def fit_sequentially(
    graph_module: fx.GraphModule,
    inputs: Inputs,
    choose: Choose,
    approximations: Mapping[str, Approximation],
    synthetic: bool = False,
) -> Plan:
    """What `choose` gives for every site. RangeError where the choices so far make values overflow the fixed-point range."""
    columns = iter(stack_calls(graph_module, inputs))
    last = _last_readers(graph_module.graph)
    values: dict[fx.Node, Tensor] = {}  # [calls, ...], or as it is for parameters
    secret: set[fx.Node] = set()  # what depends on the input
    choices: dict[str, Choice | Split] = {}
    stretch = stretch_of(synthetic)
    with torch.no_grad():
        for node in graph_module.graph.nodes:
            if node.op == "output":
                break
            if node.op == "placeholder":
                values[node] = next(columns)
                secret.add(node)
                continue
            if node.op == "get_attr":
                values[node] = attribute(graph_module, str(node.target))
                continue
            function: Any = node.target
            if not secret.isdisjoint(node.all_input_nodes):
                secret.add(node)
            if is_site(node):
                rows = _mapped(node, lambda *args, **kwargs: seen_at(node, args, kwargs, stretch), values, secret)  # noqa: B023
                choice = choose(statistics_of(site_of(node), rows, synthetic, stretch))
                choices[node.meta["site"]] = choice
                function = site_function(node, choice, approximations)
            values[node] = _mapped(node, function, values, secret)
            if is_site(node) and not values[node].abs().max() < LARGEST:  # also false for NaN
                where = f"site {node.meta['site']}"
                raise RangeError("the choices up to here make values overflow the fixed-point range", where=where)
            for done in last.get(node, ()):
                del values[done]
    return Plan(choices)


def _mapped(
    node: fx.Node, function: Callable[..., Any], values: Mapping[fx.Node, Tensor], secret: set[fx.Node]
) -> Any:
    """`function` of the node's arguments for every call; what depends on parameters only is computed once for all."""
    operands = node.all_input_nodes
    varying = [n for n in operands if n in secret]

    def one_call(*given: Tensor) -> Any:
        own = {**{n: values[n] for n in operands}, **dict(zip(varying, given, strict=True))}
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: own[n])
        return function(*args, **kwargs)

    if not varying:
        return one_call()
    chunk = max(1, ELEMENTS_AT_ONCE // max(1, max(size_of(n) for n in (node, *varying))))
    return torch.func.vmap(one_call, chunk_size=chunk, randomness="error")(*(values[n] for n in varying))


def _last_readers(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """Node -> the calls whose values are not needed after it."""
    found: dict[fx.Node, list[fx.Node]] = {}
    order = {node: place for place, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.op != "get_attr" and node.users:
            found.setdefault(max(node.users, key=order.__getitem__), []).append(node)
    return found
