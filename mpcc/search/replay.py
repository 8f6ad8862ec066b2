"""Runs an nn graph in float over many calls, with other functions at some of its sites, and reuses what stays the same.

    replay = Replay(graph_module, columns)            the graph once, values kept
    replay.outputs({"blocks.0.mlp.gelu": f})          only what follows the first site that differs is run again

A function takes the operator's own arguments. Calls are batched by `torch.func.vmap`, so a graph of static batch 1 sees
many images at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.approximate.masks import mask_at
from mpcc.approximate.split import free_dims
from mpcc.ir.nn import attribute, sites

Function = Callable[..., Any]
Outputs = tuple[Tensor, ...]
"""Each with a leading dimension for the calls."""


class Replay:
    """`base`: functions at sites that hold unless `outputs` is told otherwise. Values of one batch of calls are kept."""

    def __init__(
        self, graph_module: fx.GraphModule, columns: tuple[Tensor, ...], base: Mapping[str, Function] | None = None
    ) -> None:
        self.module = graph_module
        self.sites = sites(graph_module)
        self.base = dict(base or {})
        self.order = [node for node in graph_module.graph.nodes if node.op == "call_function"]
        self.constants = {
            n: attribute(graph_module, str(n.target)).detach() for n in graph_module.graph.nodes if n.op == "get_attr"
        }
        self.result = next(node for node in graph_module.graph.nodes if node.op == "output").args[0]
        placeholders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
        self.values: dict[fx.Node, Tensor] = dict(zip(placeholders, columns, strict=True))
        self.values |= self._run(self.order, self.base, self.order)
        self.cut: tuple[fx.Node | None, int, dict[fx.Node, Tensor]] = (None, 0, {})  # of which site, the operand that is left

    def outputs(self, functions: Mapping[str, Function]) -> Outputs:
        """What the graph gives with these functions at these sites, `base` at the others."""
        first = {self.sites[site] for site in functions}
        again: set[fx.Node] = set()
        for node in self.order:
            if node in first or any(operand in again for operand in node.all_input_nodes):
                again.add(node)
        found = list(self.result) if isinstance(self.result, (tuple, list)) else [self.result]
        nodes = [node for node in self.order if node in again]
        made = self._run(nodes, self.base | dict(functions), [node for node in found if node in again])
        return tuple(made[node] if node in made else self.values[node] for node in found)

    def at(self, site: str, function: Function | None = None, most: int | None = None) -> Tensor:
        """What one site alone gives: by `function`, or by the graph's own operator; of some `most` values where it may be cut."""
        node = self.sites[site]
        if most is not None and self.cut[:2] != (node, most):
            self.cut = node, most, self._some(node, most)
        given = {} if most is None else self.cut[2]
        return self._run([node], {} if function is None else {site: function}, [node], given)[node]

    def _some(self, node: fx.Node, most: int) -> dict[fx.Node, Tensor]:
        """The operand of a site at evenly spread positions of the longest dimension that the operator does not work along."""
        operand, free = node.args[0], free_dims(node)
        if not free or not isinstance(operand, fx.Node) or operand not in self.values or mask_at(node) is not None:
            return {}
        values = self.values[operand]
        dim = max(free, key=lambda d: values.shape[d + 1]) + 1
        count = max(1, round(values.shape[dim] * most / values.numel()))
        if count >= values.shape[dim]:
            return {}
        return {operand: values.index_select(dim, torch.linspace(0, values.shape[dim] - 1, count).long())}

    @torch.no_grad()
    def _run(
        self,
        nodes: Sequence[fx.Node],
        functions: Mapping[str, Function],
        wanted: Sequence[fx.Node],
        given: Mapping[fx.Node, Tensor] | None = None,
    ) -> dict[fx.Node, Tensor]:
        """The values of `wanted` after `nodes`, which stand in order; what these need besides is given, kept or constant."""
        if not wanted:
            return {}
        inside, given = set(nodes), given or {}
        needed = dict.fromkeys(operand for node in nodes for operand in node.all_input_nodes if operand not in inside)
        batched = [node for node in needed if node in self.values]

        def one_call(*values: Tensor) -> tuple[Tensor, ...]:
            env: dict[fx.Node, Any] = self.constants | dict(zip(batched, values, strict=True))
            for node in nodes:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: env[n])
                function = functions.get(node.meta.get("site", ""), node.target)
                assert callable(function)
                env[node] = function(*args, **kwargs)
            return tuple(env[node] for node in wanted)

        run = torch.func.vmap(one_call, randomness="error")
        return dict(zip(wanted, run(*(given.get(node, self.values[node]) for node in batched)), strict=True))
