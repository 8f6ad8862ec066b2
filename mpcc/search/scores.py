"""Scores of heads and tokens without training: how much a model changes when one position alone takes an alternative.

A head, or a whole layer, is scored by the mean square change of the model's outputs. Tokens are many, and each would cost
a run of the model: they are scored by the mean square change of their own values at the site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.approximate import Approximation, Choice
from mpcc.approximate.expand import site_function
from mpcc.approximate.recipe import Granularity, Use, fitted
from mpcc.calibration.calibrate import seen_at, statistics_of
from mpcc.calibration.quantities import site_of
from mpcc.calibration.ranges import Inputs, observe, over_calls, stack_calls
from mpcc.errors import UnsupportedOperator
from mpcc.ir.nn import sites

from .replay import Function

Scores = Mapping[str, Sequence[float]]
"""Site -> a score for each head of a softmax or each token of a GELU; the largest keep a recipe's first alternative."""
CALLS = 8
"""Calibration calls that outputs are compared on: a model of 12 layers of 12 heads is run 8 * 145 times."""


def measured_scores(
    graph_module: fx.GraphModule,
    inputs: Inputs,
    places: Mapping[str, tuple[int, int]],
    granularity: Granularity,
    use: Use,
    approximations: Mapping[str, Approximation],
) -> Scores:
    """Scores for the sites of `places` (site -> dimension and number of its positions) if they took the alternative `use`."""
    found = sites(graph_module)
    nodes = {found[site]: place for site, place in places.items()}
    functions = _functions(graph_module, inputs, nodes, use, approximations)
    change = change_at_site if granularity == "token" else change_of_outputs
    return {node.meta["site"]: row for node, row in change(graph_module, inputs, nodes, functions).items()}


def _functions(
    graph_module: fx.GraphModule,
    inputs: Inputs,
    nodes: Mapping[fx.Node, Any],
    use: Use,
    approximations: Mapping[str, Approximation],
) -> dict[fx.Node, Function]:
    """The alternative at each site, fitted to what the site sees in the original model."""

    def look(node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> Any:
        return seen_at(node, args, kwargs) if node in nodes else None

    seen = observe(graph_module, inputs, look)
    found = {}
    for node in nodes:
        statistics = statistics_of(site_of(node), seen[node.name], synthetic=False)
        options = fitted(use, statistics, approximations)
        if options is None:
            raise UnsupportedOperator(f"{use.approximation} does not apply", where=f"site {node.meta['site']}")
        found[node] = site_function(node, Choice(use.approximation, options), approximations)
    return found


def change_of_outputs(
    graph_module: fx.GraphModule, inputs: Inputs, nodes: Mapping[fx.Node, tuple[int, int]], functions: Mapping[fx.Node, Function]
) -> dict[fx.Node, list[float]]:
    """Mean square change of the outputs when one position alone takes its alternative, for every position of the sites."""
    columns = tuple(column[:CALLS] for column in stack_calls(graph_module, inputs))

    def outputs(stand_ins: Mapping[fx.Node, Function]) -> Tensor:
        def one_call(*values: Tensor) -> Any:
            found = _Replacing(graph_module, stand_ins).run(*values)
            return torch.cat([o.reshape(-1) for o in (found if isinstance(found, tuple) else (found,))])

        result: Tensor = over_calls(graph_module, one_call, columns)
        return result

    plain = outputs({})

    def change(node: fx.Node, place: int) -> float:
        dim, count = nodes[node]
        function = _at_one(node, functions[node], dim, count, place)
        return float((outputs({node: function}) - plain).square().mean())

    return {node: [change(node, place) for place in range(count)] for node, (_, count) in nodes.items()}


def _at_one(node: fx.Node, function: Function, dim: int, count: int, place: int) -> Function:
    """The site with `function` at one position along `dim`, its operator at the others."""
    operator: Any = node.target

    def call(*args: Any, **kwargs: Any) -> Tensor:
        new: Tensor = function(*args, **kwargs)
        if count == 1:
            return new
        mask = (torch.arange(count) == place).reshape([count if d == dim else 1 for d in range(new.dim())])
        return torch.where(mask, new, operator(*args, **kwargs))

    return call


class _Replacing(fx.Interpreter):
    """Runs a graph with other functions in place of some nodes."""

    def __init__(self, graph_module: fx.GraphModule, stand_ins: Mapping[fx.Node, Function]) -> None:
        super().__init__(graph_module)
        self.stand_ins = stand_ins

    def run_node(self, n: fx.Node) -> Any:
        if n not in self.stand_ins:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        return self.stand_ins[n](*args, **kwargs)


def change_at_site(
    graph_module: fx.GraphModule, inputs: Inputs, nodes: Mapping[fx.Node, tuple[int, int]], functions: Mapping[fx.Node, Function]
) -> dict[fx.Node, list[float]]:
    """Mean square difference between the alternative and the operator, for every position of the sites."""

    def look(node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> Any:
        if node not in nodes:
            return None
        dim, count = nodes[node]
        change = (functions[node](*args, **kwargs) - value).square()
        return change.mean([d for d in range(change.dim()) if d != dim or count == 1]).reshape(count)

    seen = observe(graph_module, inputs, look)
    return {node: seen[node.name].mean(0).tolist() for node in nodes}
