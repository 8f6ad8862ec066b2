"""The structural choices of a plan written into the nn-level graph, in canonical operators: trainable and exportable.

    softmax -> softmax_scaling             mul(x, 1 / N)
    softmax, heads 0,2 -> softmax_relu     index heads, relu, sum, the polynomials of its reciprocal ...; cat; index back

Sites (and parts of sites) with an exact or bounded choice keep their operator: its approximations compute it already.
What a choice brings in that is itself non-linear (a ReLU) is a site of the new graph.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from mpcc.errors import UnsupportedOperator
from mpcc.ir import mpc
from mpcc.ir.names import register
from mpcc.ir.nn import describe, is_site, meta_tensor, name_sites
from mpcc.ir.trace import Recorder, infer

from .approximation import Approximation
from .expand import check_sites, site_function
from .plan import Choice, Plan, Split
from .split import split_function

aten = torch.ops.aten
NAME = "transform"


def apply_structural(graph_module: fx.GraphModule, plan: Plan, approximations: Mapping[str, Approximation]) -> fx.GraphModule:
    """A copy with the structural choices written in; it shares no parameters with the original."""
    check_sites(graph_module, plan)
    result = copy.deepcopy(graph_module)
    for node in list(result.graph.nodes):
        entry = plan.choices.get(node.meta.get("site", "")) if is_site(node) else None
        if entry is None or not any(_structural(choice, approximations) for choice in entry.choices):
            continue
        _replace(result, node, entry, approximations)
    name_sites(result.graph)
    result.graph.eliminate_dead_code()
    result.graph.lint()
    result.recompile()
    return result


def _structural(choice: Choice, approximations: Mapping[str, Approximation]) -> bool:
    found = approximations.get(choice.approximation)
    return found is None or found.level == "structural"  # an unknown one is reported by `site_function`


def _replace(
    graph_module: fx.GraphModule, node: fx.Node, entry: Choice | Split, approximations: Mapping[str, Approximation]
) -> None:
    """`node` by canonical operators: its function over the primitives is recorded aside, then written one by one."""
    aside = fx.Graph()
    places = {source: aside.placeholder(source.name) for source in node.all_input_nodes}
    for source, place in places.items():
        place.meta["val"] = meta_tensor(source.meta["val"])
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: places[n])
    made_by = (*node.meta.get("made_by", ()), NAME)
    recorder = Recorder(aside, {"layer": node.meta.get("layer", ""), "made_by": made_by})
    output = recorder.call(_function(node, entry, approximations), *args, **kwargs)
    writer = _Writer(graph_module, node, {place: source for source, place in places.items()})
    with graph_module.graph.inserting_before(node):
        for made in aside.nodes:
            if made.op == "call_function":
                writer.write(made)
        new = writer.done[output]
    node.replace_all_uses_with(new)
    graph_module.graph.erase_node(node)


def _function(node: fx.Node, entry: Choice | Split, approximations: Mapping[str, Approximation]) -> Callable[..., Any]:
    """As `site_function`, but what is not structural stays the operator."""
    if isinstance(entry, Split):
        return split_function(node, entry, [_function(node, choice, approximations) for choice in entry.choices])
    target: Any = node.target
    return site_function(node, entry, approximations) if _structural(entry, approximations) else target


class _Writer:
    """Writes primitives as canonical operators in front of `site`; `done` maps what was recorded to what was written."""

    def __init__(self, graph_module: fx.GraphModule, site: fx.Node, done: dict[fx.Node, fx.Node]) -> None:
        self.graph_module, self.site, self.done = graph_module, site, done

    def write(self, node: fx.Node) -> None:
        if node.target in (mpc.less, mpc.select):
            return  # parts of a ReLU, see `_sub`
        rule = RULES.get(node.target)
        if rule is not None:
            self.done[node] = rule(self, node)
            return
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.value)
        target: Any = node.target
        target = PRODUCTS.get(target, target)
        self.done[node] = self.call(target, *args, like=node, **kwargs)

    def value(self, node: fx.Node) -> fx.Node:
        if node not in self.done:
            raise UnsupportedOperator(
                f"{getattr(node.target, '__name__', node.target)} of a structural choice has no canonical operator",
                where=describe(self.site),
            )
        return self.done[node]

    def call(self, target: Any, *args: Any, like: fx.Node, **kwargs: Any) -> fx.Node:
        made = self.graph_module.graph.call_function(target, args, kwargs)
        made.meta.update({key: like.meta[key] for key in ("layer", "made_by", "part") if key in like.meta})
        made.meta["val"] = infer(made)
        return made

    def operands(self, node: fx.Node) -> list[Any]:
        return [self.value(a) if isinstance(a, fx.Node) else a for a in node.args]


def _sum(w: _Writer, node: fx.Node) -> fx.Node:
    x, y = w.operands(node)
    return w.call(aten.add.Tensor, x, y, like=node)


def _sub(w: _Writer, node: fx.Node) -> fx.Node:
    x, y = node.args
    if isinstance(y, fx.Node) and y.target is mpc.select:
        bit, chosen = y.args
        if chosen is x and isinstance(bit, fx.Node) and bit.args == (x, 0.0):
            return w.call(aten.relu.default, w.value(x), like=node)  # type: ignore[arg-type]
    first, second = w.operands(node)
    if isinstance(second, fx.Node):
        return w.call(aten.sub.Tensor, first, second, like=node)
    return w.call(aten.add.Tensor, first, -float(second), like=node)


def _scale(w: _Writer, node: fx.Node) -> fx.Node:
    x, factor = w.operands(node)
    return x if factor == 1.0 else w.call(aten.mul.Tensor, x, float(factor), like=node)


def _mul(w: _Writer, node: fx.Node) -> fx.Node:
    return w.call(aten.mul.Tensor, *w.operands(node), like=node)


def _square(w: _Writer, node: fx.Node) -> fx.Node:
    return w.call(aten.pow.Tensor_Scalar, *w.operands(node), 2, like=node)


def _polynomial(w: _Writer, node: fx.Node) -> fx.Node:
    """By Horner's rule, which is stable; a pure power as one."""
    x, coefficients = w.operands(node)
    *lower, top = coefficients
    if top == 1.0 and not any(lower) and len(lower) > 1:
        return w.call(aten.pow.Tensor_Scalar, x, len(lower), like=node)
    y = w.call(aten.mul.Tensor, x, float(top), like=node)
    for c in reversed(lower[1:]):
        y = w.call(aten.mul.Tensor, w.call(aten.add.Tensor, y, float(c), like=node), x, like=node)
    return w.call(aten.add.Tensor, y, float(lower[0]), like=node)


def _total(w: _Writer, node: fx.Node) -> fx.Node:
    x, dims, *rest = w.operands(node)
    keepdim = bool(rest[0]) if rest else bool(node.kwargs.get("keepdim", False))
    return w.call(aten.sum.dim_IntList, x, list(dims), keepdim, like=node)


def _take(w: _Writer, node: fx.Node) -> fx.Node:
    """A slice, or `index` with a constant."""
    x, dim, index = w.operands(node)
    if tuple(index) == tuple(range(index[0], index[0] + len(index))):
        return w.call(aten.slice.Tensor, x, dim, index[0], index[0] + len(index), like=node)
    name = register(w.graph_module, f"positions_{node.name}", torch.tensor(index), trainable=False)
    constant = w.graph_module.graph.get_attr(name)
    constant.meta.update(val=meta_tensor(torch.tensor(index)), layer=node.meta.get("layer", ""), made_by=(NAME,))
    return w.call(aten.index.Tensor, x, [*[None] * dim, constant], like=node)


PRODUCTS = {mpc.matmul: aten.matmul.default, mpc.linear: aten.linear.default}
RULES: Mapping[Any, Callable[[_Writer, fx.Node], fx.Node]] = {
    mpc.add: _sum,
    mpc.sub: _sub,
    mpc.scale: _scale,
    mpc.mul: _mul,
    mpc.square: _square,
    mpc.polynomial: _polynomial,
    mpc.sum: _total,
    mpc.gather: _take,
}
