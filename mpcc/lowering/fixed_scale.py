"""An mpc graph for engines whose values all have one number of fraction bits: each value is kept divided by a scale of its own.

    y = polynomial(x, c), x in [0, 3000]   ->   u = x / 4096 in [0, 0.73],  y / s = polynomial(u, c_k 4096^k / s)

Under a protocol with 18 fraction bits a probability of 2^-9 has 9 bits left, and a coefficient of 1e-7 is 0. mpcc's own engine
keeps a scale for each value; here the same is done by rewriting the graph, for nothing where a scale can be moved into a
weight, into the coefficients of a polynomial, a threshold, or what the client multiplies by itself. `mpc.scale` then stays only
where two summands differ in scale, and where the variable of a polynomial is too large.

Needs `meta["range"]` on every node (`mpcc.calibration.ranges`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from mpcc.errors import UnsupportedOperator
from mpcc.ir import mpc
from mpcc.ir.names import register
from mpcc.ir.nn import WHOLE_VIEWS, constant_values, shape_of
from mpcc.ir.trace import Recorder
from mpcc.ir.value_range import Range

from .products import shifted

aten = torch.ops.aten
FIT = 4.0
"""How far a value that has a scale already may be from the size aimed at before it is multiplied: 2 of 18 bits."""
QUANTISED = 16.0
"""The highest power of a polynomial's variable: coefficients, which are off by 2^-19, are off by no more than 2^-15 there."""
LEAST = 2.0**-64
"""Stands for the size of values that were 0 in all of calibration."""
SUMS = (mpc.add, mpc.sub)
EXPAND = aten.expand.default
ELEMENTWISE = frozenset({mpc.scale, mpc.polynomial, mpc.square, mpc.less, mpc.mul, mpc.add, mpc.sub})


@dataclass(frozen=True)
class Scaled:
    """`graph` computes `outputs[i]` times less than the original's i-th output from inputs divided by `inputs[name]`.

    `largest`: the magnitude that its values, and the sums in its products, reach on the calibration inputs.
    """

    graph: fx.GraphModule
    inputs: Mapping[str, float]
    outputs: tuple[float, ...]
    largest: float


def scaled(source: fx.GraphModule) -> Scaled:
    """The graph with a scale for each value. UnsupportedOperator for spline gates, which only mpcc's engine has."""
    return _Scaling(source).run()


class _Groups:
    """Values that must have one scale, because they are added to, or are parts of, one another."""

    def __init__(self) -> None:
        self.parent: dict[fx.Node, fx.Node] = {}

    def root(self, node: fx.Node) -> fx.Node:
        self.parent.setdefault(node, node)
        while (above := self.parent[node]) is not node:
            self.parent[node] = self.parent[above]
            node = above
        return node

    def join(self, *nodes: fx.Node) -> None:
        first = self.root(nodes[0])
        for other in nodes[1:]:
            self.parent[self.root(other)] = first


class _Scaling:
    def __init__(self, source: fx.GraphModule) -> None:
        self.source, self.root, self.graph = source, torch.nn.Module(), fx.Graph()
        self.constants = constant_values(source)
        self.groups, self.scale = _Groups(), dict[fx.Node, float]()
        self.env: dict[fx.Node, fx.Node] = {}
        self.made: dict[tuple[str, float], fx.Node] = {}
        self.products: dict[tuple[fx.Node, float], fx.Node] = {}
        self.recorder = Recorder(self.graph)
        self.largest = 0.0

    def run(self) -> Scaled:
        nodes = [node for node in self.source.graph.nodes if node not in self.constants]
        for node in nodes:
            self._join(node)
        members: dict[fx.Node, list[fx.Node]] = {}
        for node in nodes:
            if node.op != "output":
                members.setdefault(self.groups.root(node), []).append(node)
        self.members = members
        inputs, outputs = {}, tuple[float, ...]()
        for node in nodes:
            self.recorder.extra = {key: value for key, value in node.meta.items() if key not in ("val", "range")}
            if node.op == "output":
                outputs = self._outputs(node)
            elif node.op == "placeholder":
                scale = self._group_scale(node, None)
                self.env[node] = self.graph.placeholder(str(node.target))
                self.env[node].meta.update(node.meta)
                inputs[str(node.target)] = scale
            else:
                self.env[node] = self._made(node)
            if node.op != "output":
                self.largest = max(self.largest, _radius(node) / self._at(node))
        self.graph.eliminate_dead_code()
        graph = fx.GraphModule(self.root, self.graph)
        return Scaled(graph, inputs, outputs, self.largest)

    # -- scales --

    def _join(self, node: fx.Node) -> None:
        """Bits are in no group: their scale is 1, and `select` takes them as they are."""
        secret = [one for one in node.all_input_nodes if one not in self.constants and one.target is not mpc.less]
        if node.op in ("output", "placeholder"):
            return
        if node.target is mpc.curve:
            hint = "Choose approximations without gates: `mpcc optimize --protocol` does so for protocols of other engines."
            raise UnsupportedOperator("spline gates run in mpcc's own engine alone", where=str(node.meta.get("site")), hint=hint)
        if node.target in SUMS or node.target is mpc.sum or node.target in mpc.VIEWS - {mpc.scale_rows}:
            self.groups.join(node, *secret)
        if node.target is mpc.select:
            self.groups.join(node, *secret[-1:])

    def _group_scale(self, node: fx.Node, natural: float | None) -> float:
        """The scale of a value's group, settled when its first member is made; `natural`: the one that it has for nothing."""
        root = self.groups.root(node)
        if root not in self.scale:
            aim = self._aim(self.members[root])
            near = natural is not None and aim / FIT <= natural <= aim * FIT
            self.scale[root] = natural if near and natural is not None else aim
        return self.scale[root]

    def _aim(self, members: list[fx.Node]) -> float:
        """A power of two: the radius of what a polynomial takes, else the usual size of the members (sums may be larger)."""
        radii = [_radius(node) for node in members for user in node.users if _is_steep(user)]
        if radii:
            return _power_of_two(max(radii), up=True)
        sizes = [math.log2(max(_range(node).rms, LEAST)) for node in members if node.target is not mpc.sum or len(members) == 1]
        return _power_of_two(2.0 ** statistics.median(sizes or [0.0]), up=False)

    def _at(self, node: Any) -> float:
        return 1.0 if node.target is mpc.less else self.scale[self.groups.root(node)]

    # -- nodes --

    def _made(self, node: fx.Node) -> fx.Node:
        target, args = node.target, node.args
        first = args[0]
        if target is mpc.less:
            return self._new(mpc.less, self._value(first), float(args[1]) / self._at(first))  # type: ignore[arg-type]
        if target is mpc.polynomial:
            return self._polynomial(node)
        if target in (mpc.linear, mpc.conv):
            return self._with_weight(node)
        if target is mpc.scale:
            factor = float(args[1])  # type: ignore[arg-type]
            return self._settled(node, self._at(first) * abs(factor), self._signed(first, factor))
        if target is mpc.scale_rows:
            return self._settled(node, self._at(first), self._new(target, self._value(first), *args[1:]))
        if target is mpc.square:
            return self._settled(node, self._at(first) ** 2, self._new(mpc.square, self._value(first)))
        if target in (mpc.mul, mpc.matmul):
            return self._product(node)
        if target in SUMS:
            return self._sum(node)
        if target is mpc.select:  # many bits may choose from one value, which is then multiplied once
            natural = self._at(args[1])
            value = self._settled(node, natural, self._value(args[1]))
            return self._new(mpc.select, self._value(first), value)
        return self._view(node)

    def _product(self, node: fx.Node) -> fx.Node:
        x, y = node.args
        if x not in self.constants and y not in self.constants:
            made = self._new(node.target, self._value(x), self._value(y))
            return self._settled(node, self._at(x) * self._at(y), made)
        secret = y if x in self.constants else x
        scale = self._group_scale(node, None)
        known = self._constant(x if x in self.constants else y, self._at(secret) / scale)  # type: ignore[arg-type]
        pair = (known, self._value(secret)) if x in self.constants else (self._value(secret), known)
        return self._new(node.target, *pair)

    def _with_weight(self, node: fx.Node) -> fx.Node:
        x, weight, *rest = node.args
        scale = self._group_scale(node, None)
        bias = rest[0] if rest else node.kwargs.get("bias")
        if weight not in self.constants:
            raise UnsupportedOperator("a linear layer whose weight is no parameter", where=str(node.meta.get("layer")))
        known = self._constant(weight, self._at(x) / scale)  # type: ignore[arg-type]
        shift = None if bias is None else self._constant(bias, 1 / scale)  # type: ignore[arg-type]
        return self._new(node.target, self._value(x), known, shift, *rest[1:])

    def _polynomial(self, node: fx.Node) -> fx.Node:
        x, given = node.args[0], node.args[1]
        assert isinstance(x, fx.Node) and isinstance(given, list | tuple)
        coefficients = [float(one) for one in given]  # type: ignore[arg-type]
        degree, at, value, middle = len(coefficients) - 1, self._at(x), self._value(x), 0.0
        if degree in (1, 2) and coefficients[-1] and not any(coefficients[1:-1]):
            return self._power(node, degree, coefficients[0], coefficients[-1])
        low, high = _range(x).low, _range(x).high
        if degree > 1 and (high - low) / 2 < 0.75 * _radius(x):
            middle = (low + high) / 2
            value = self._new(mpc.sub, value, middle / at)
        radius = max(high - middle, middle - low)
        if degree > 1 and (radius / at) ** degree > QUANTISED:
            wanted = _power_of_two(radius, up=True)
            value, at = self._new(mpc.scale, value, at / wanted), wanted
        scale = self._group_scale(node, None)
        moved = shifted(coefficients, middle)
        return self._new(mpc.polynomial, value, tuple(one * at**k / scale for k, one in enumerate(moved)))

    def _power(self, node: fx.Node, degree: int, start: float, factor: float) -> fx.Node:
        """start + factor x or start + factor x^2: the factor is a scale, which may cost nothing."""
        x = node.args[0]
        made = self._value(x) if degree == 1 else self._new(mpc.square, self._value(x))
        made = self._new(mpc.scale, made, -1.0) if factor < 0 else made
        made = self._settled(node, self._at(x) ** degree * abs(factor), made)
        return self._new(mpc.add, made, start / self._at(node)) if start else made

    def _sum(self, node: fx.Node) -> fx.Node:
        x, y = node.args
        sign = 1.0 if node.target is mpc.add else -1.0
        if x in self.constants:  # constant - y is -(y - constant)
            scale = self._group_scale(node, None)
            signed = self._number(y, scale) if sign > 0 else self._new(mpc.scale, self._number(y, scale), -1.0)
            return self._new(mpc.add, signed, self._constant(x, 1 / scale))  # type: ignore[arg-type]
        scale = self._group_scale(node, None)
        if not isinstance(y, fx.Node):
            return self._new(node.target, self._number(x, scale), float(y) / scale)  # type: ignore[arg-type]
        other = self._constant(y, 1 / scale) if y in self.constants else self._number(y, scale)
        return self._new(node.target, self._number(x, scale), other)

    def _number(self, node: Any, scale: float) -> fx.Node:
        """A summand at the scale of the sum; a bit becomes a number."""
        value = self._value(node)
        return self._new(mpc.scale, value, 1 / scale) if node.target is mpc.less else value

    def _view(self, node: fx.Node) -> fx.Node:
        scale = self._group_scale(node, None)
        if node.target is aten.index.Tensor:
            return self._gathered(node)
        args, kwargs = fx.node.map_arg(
            (node.args, node.kwargs),
            lambda one: self._constant(one, 1 / scale) if one in self.constants else self._number(one, scale),
        )
        return self._new(node.target, *args, **kwargs)

    def _gathered(self, node: fx.Node) -> fx.Node:
        """Constant positions along one dimension."""
        source, indices = node.args
        found = [(dim, one) for dim, one in enumerate(indices) if one is not None]  # type: ignore[arg-type]
        if len(found) != 1 or found[0][1] not in self.constants or self.constants[found[0][1]].dim() != 1:
            what = "positions along several dimensions at once run in mpcc's own engine alone"
            raise UnsupportedOperator(what, where=str(node.meta.get("layer")))
        dim, index = found[0]
        return self._new(mpc.gather, self._value(source), dim, tuple(self.constants[index].tolist()))

    def _outputs(self, node: fx.Node) -> tuple[float, ...]:
        values = node.args[0] if isinstance(node.args[0], tuple | list) else (node.args[0],)
        self.graph.output(tuple(self._value(one) for one in values))
        return tuple(self._at(one) for one in values)

    # -- building --

    def _value(self, node: Any) -> fx.Node:
        return self.env[node]

    def _signed(self, node: Any, factor: float) -> fx.Node:
        return self._new(mpc.scale, self.env[node], -1.0) if factor < 0 else self.env[node]

    def _settled(self, node: fx.Node, natural: float, made: fx.Node) -> fx.Node:
        """The value at its group's scale, multiplied where it has another."""
        scale = self._group_scale(node, natural)
        return made if math.isclose(natural, scale, rel_tol=1e-9) else self._new(mpc.scale, made, natural / scale)

    def _new(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """A node. What is computed of every copy of a value alike is computed of the value, before it is expanded."""
        given = [one for one in args if isinstance(one, fx.Node)]
        if target in ELEMENTWISE and all(one.target is EXPAND for one in given) and len({_shapes(one) for one in given}) == 1:
            below = self._new(target, *(one.args[0] if isinstance(one, fx.Node) else one for one in args), **kwargs)
            return self._call(EXPAND, below, *given[0].args[1:], **given[0].kwargs)
        return self._scaled(args[0], float(args[1])) if target is mpc.scale else self._call(target, *args, **kwargs)

    def _scaled(self, given: fx.Node, factor: float) -> fx.Node:
        """Products with numbers are joined, also past a change of shape, and made once for all who want one."""
        value, views = given, list[fx.Node]()
        while value.target in WHOLE_VIEWS:
            views.append(value)
            value = value.args[0]  # type: ignore[assignment]
        if value.target is mpc.scale:
            value, factor = value.args[0], factor * float(value.args[1])  # type: ignore[assignment, arg-type]
        else:
            value, views = given, []
        made = value
        if factor != 1.0 or _is_bit(value):
            if (value, factor) not in self.products:
                self.products[value, factor] = self._call(mpc.scale, value, factor)
            made = self.products[value, factor]
        for view in reversed(views):
            made = self._call(view.target, made, *view.args[1:], **view.kwargs)
        return made

    def _call(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        return self.recorder.create_node("call_function", target, args, kwargs)

    def _constant(self, node: fx.Node, factor: float) -> fx.Node:
        """A constant times a factor: its own tensor, made once."""
        name = str(node.target) if node.op == "get_attr" else f"folded.{node.name}"
        key = (name, factor)
        if key not in self.made:
            value = (self.constants[node].double() * factor).float()
            path = register(self.root, name, value, trainable=False)
            self.made[key] = self.graph.get_attr(path)
            self.made[key].meta["val"] = torch.empty(value.shape, device="meta")
        return self.made[key]


def _is_bit(node: fx.Node) -> bool:
    while node.target in WHOLE_VIEWS:
        node = node.args[0]  # type: ignore[assignment]
    return node.target is mpc.less


def _shapes(expanded: fx.Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return shape_of(expanded.args[0]), shape_of(expanded)  # type: ignore[arg-type]


def _range(node: fx.Node) -> Range:
    found: Range = node.meta["range"]
    return found


def _radius(node: fx.Node) -> float:
    return max(abs(_range(node).low), abs(_range(node).high), LEAST)


def _is_steep(node: fx.Node) -> bool:
    return node.target is mpc.polynomial and len(node.args[1]) > 2  # type: ignore[arg-type]


def _power_of_two(value: float, up: bool) -> float:
    power = math.log2(max(value, LEAST))
    return 2.0 ** (math.ceil(power) if up else round(power))
