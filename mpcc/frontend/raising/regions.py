"""Regions: the nodes between one value and what is computed from it alone.

A decomposed function has one input and one output, whatever the order of its factors and wherever its constants stand.
So it is found as a region of the graph and recognised by what it computes (`functions`, `norms`), not by how it is
written: commutativity, split constants and rounded literals need no care.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten

ELEMENTWISE = {
    *(aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.neg.default, aten.pow.Tensor_Scalar, aten.abs.default),
    *(aten.erf.default, aten.tanh.default, aten.sigmoid.default, aten.exp.default, aten.log.default),
    *(aten.reciprocal.default, aten.sqrt.default, aten.rsqrt.default),
    *(aten.clamp.default, aten.relu.default, aten.hardsigmoid.default, aten.softplus.default, aten.erfc.default),
}
REDUCTIONS = {aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.expand.default}

# Longer ones are not decompositions of one function.
LARGEST = 16


@dataclass(frozen=True)
class Region:
    """`output` is computed from `source` alone, by `nodes` (in order of execution, `output` last)."""

    source: fx.Node
    output: fx.Node
    nodes: tuple[fx.Node, ...]

    def __call__(self, value: torch.Tensor) -> torch.Tensor:
        """What the region makes of `value`."""
        values: dict[fx.Node, Any] = {self.source: value}
        for node in self.nodes:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])
            assert callable(node.target)
            # broadcasting does what expand does, and lets `value` have other sizes than the graph's
            values[node] = args[0] if node.target is aten.expand.default else node.target(*args, **kwargs)
        result = values[self.output]
        assert isinstance(result, torch.Tensor)
        return result

    def has(self, *targets: Any) -> bool:
        return any(node.target in targets for node in self.nodes)

    def numbers(self) -> list[float]:
        """The constants that the region mixes in."""
        every = [arg for node in self.nodes for arg in node.args if isinstance(arg, (int, float))]
        return [float(number) for number in every if not isinstance(number, bool)]


def regions(output: fx.Node, allowed: set[Any]) -> Iterator[Region]:
    """Every region that ends in `output` and consists of `allowed` operators, smallest first.

    Backwards from the output, always the latest node first: whenever a single node is left open, all paths meet in it.
    """
    inside: list[fx.Node] = []
    open_nodes = {output}
    while len(inside) < LARGEST:
        latest = max(open_nodes)
        if len(open_nodes) == 1 and inside:
            yield Region(latest, output, tuple(reversed(inside)))
        if latest.op != "call_function" or latest.target not in allowed:
            return
        open_nodes.remove(latest)
        inside.append(latest)
        open_nodes.update(latest.all_input_nodes)
        if not open_nodes:
            return


def later(node: fx.Node, allowed: set[Any], steps: int) -> list[fx.Node]:
    """`node` and what is computed from it by at most `steps` operators in a row, the farthest first."""
    found = {node: 0}
    waiting = [node]
    while waiting:
        current = waiting.pop(0)
        for user in current.users:
            if user.op == "call_function" and user.target in allowed and found[current] < steps and user not in found:
                found[user] = found[current] + 1
                waiting.append(user)
    return sorted(found, key=found.__getitem__, reverse=True)
