"""Products solved anew while a plan is being run, one at a time and cheaply: what a search compares plans by.

    mender = Mender(graph, columns, first)         calls from `first` on make the equations, those before it only measure
    mender.solved(product, values, constants)      its weight and bias, from what it reads under the plan at hand

What a sweep does to a plan that was settled on (`mpcc.compensate.sweep`) without copies of inputs and with fewer lambdas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, fx

from mpcc.calibration.ranges import observe

from .eligible import eligible
from .ridge import Normal, best_strength
from .rows import as_matrix, as_weight, bias_of, given_rows, read_rows, weight_of
from .sweep import GAIN
from .targets import Target, target_of

STRENGTHS = (3e-3, 3e-2, 0.3)
"""Of lambda: every third of those of a sweep but for the ends, which are hardly ever the best."""
TUNE = 4
"""One in so many of the calls chooses lambda, and whether a solve is taken."""


class Mender:
    """The products of a graph that may get new weights, and what they should give."""

    def __init__(
        self, graph_module: fx.GraphModule, columns: Sequence[Tensor], first: int, as_was: Mapping[str, Tensor] | None = None
    ) -> None:
        """`as_was`: what another mender of the same graph and calls found, by the name of the node, so as not to run it again."""
        nodes = list(graph_module.graph.nodes)
        secret: set[fx.Node] = set()
        for node in nodes:
            if node.op == "placeholder" or any(operand in secret for operand in node.all_input_nodes):
                secret.add(node)
        order = {node: place for place, node in enumerate(nodes)}
        self.first, self.calls = first, len(columns[0]) - first
        found, _ = eligible(graph_module.graph, secret, secret)
        self.targets: dict[fx.Node, Target] = {node: target_of(node, order) for node in found}
        ends = {target.end for target in self.targets.values()}
        if as_was is None:
            given = list(zip(*(column[first:] for column in columns), strict=True))
            as_was = observe(graph_module, given, lambda node, args, kwargs, value: value if node in ends else None)
        self.as_was: dict[fx.Node, Tensor] = {node: as_was[node.name] for node in ends}

    def solved(
        self, node: fx.Node, values: Mapping[fx.Node, Tensor], constants: Mapping[fx.Node, Tensor]
    ) -> dict[fx.Node, Tensor]:
        """New values of the constants of a product, none where they are no better on calls that made no equation.

        `values`: what the product and the targets read, [calls, ...], as it is now.
        """
        weight, bias = weight_of(node), bias_of(node)
        assert weight is not None
        cut = self.calls - max(1, self.calls // TUNE)
        fit, tune = (self._normal(node, part, values, constants) for part in (slice(0, cut), slice(cut, self.calls)))
        old = as_matrix(node, constants[weight]).double()
        old_bias = None if bias is None else constants[bias].double().reshape(len(old), -1)
        after, strength = best_strength(fit, tune, old, bias is not None, STRENGTHS)
        if not after < (1 - GAIN) * tune.error(old, old_bias):
            return {}
        made, shift = (fit + tune).solved(old, bias is not None, strength)
        found = {weight: as_weight(node, made).to(constants[weight].dtype)}
        if bias is not None and shift is not None:
            found[bias] = shift.reshape(-1).to(constants[bias].dtype)
        return found

    def _normal(
        self, node: fx.Node, part: slice, values: Mapping[fx.Node, Tensor], constants: Mapping[fx.Node, Tensor]
    ) -> Normal:
        now, target = slice(self.first + part.start, self.first + part.stop), self.targets[node]
        source = node.args[0]
        assert isinstance(source, fx.Node)
        others = {other: values[other][now] if other in values else constants[other] for other in target.others}
        wanted = target.of(self.as_was[target.end][part], others)
        return Normal.of(read_rows(node, values[source][now]), given_rows(node, wanted))
