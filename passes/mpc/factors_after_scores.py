"""Factors per row of queries and keys move behind their product, with what their biases add. Exact up to rounding.

    q = add(mul(a, s), b)     a [..., M, K], s [..., M, 1]        matmul(q, kT)  ->  add(mul(mul(matmul(a, cT), s), tT),
    k = add(mul(c, t), d)     c [..., N, K], t [..., N, 1]                               mul(matmul(b, cT), tT))

A norm's factor reaches queries and keys through the linear layer between (`divide_after_matmul`). Behind the product it is
awaited in one place, a round and an opening of both operands later. What the keys' bias d adds is the same all along a row, so it
is left out where the mean of the row is taken off anyway, as a softmax does; elsewhere it is added likewise. Views and scales
may stand between: they act on the operands, and on the factors and biases as on numbers of their rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from mpcc.ir import mpc
from mpcc.ir.nn import shape_of
from mpcc.ir.site_ends import merge_result
from mpcc.rewrite import Pass
from mpcc.rewrite.constants import evaluate, is_constant, source_of
from mpcc.rewrite.depth import depths
from mpcc.rewrite.edit import Edit, Refusal, run
from mpcc.rewrite.means import means_taken
from mpcc.rewrite.slices import keeps_rows

from .divide_after_matmul import rows_and_factor

aten = torch.ops.aten
NAME = "factors_after_scores"
PASSED = (aten.reshape.default, aten.permute.default, aten.slice.Tensor, aten.select.int, mpc.gather)


@dataclass(frozen=True)
class Operand:
    """`way` applied to add(mul(value, factor), bias); without a factor, `value` is the operand itself."""

    value: fx.Node
    factor: fx.Node | None = None
    product: fx.Node | None = None  # mul(value, factor)
    bias: fx.Node | None = None
    way: tuple[fx.Node, ...] = ()


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    ready = depths(edit.graph)
    for node in list(graph_module.graph.nodes):
        if node.target is not mpc.matmul or min(len(shape_of(one)) for one in node.all_input_nodes) < 2:
            continue
        left, right = map(found_in, node.all_input_nodes if len(node.all_input_nodes) == 2 else [*node.all_input_nodes] * 2)
        if left.factor is None and right.factor is None:
            continue
        refusal = useless(node, left, right, ready) or unmovable(left, -1) or unmovable(right, -2)
        if refusal is not None:
            edit.refuse(refusal)
        else:
            edit.replace(node, moved(edit, node, left, right))
    return edit.finish()


def found_in(operand: fx.Node) -> Operand:
    """How an operand is made of a factor per row, if it is."""
    way, top, bias = list[fx.Node](), operand, None
    while top.target is mpc.scale or top.target in PASSED:
        way.insert(0, top)
        top = top.all_input_nodes[0]
    if top.target is mpc.add and any(map(is_constant, top.args)):
        bias, top = sorted(top.all_input_nodes, key=lambda one: not is_constant(one))
    both = rows_and_factor(top) if top.target is mpc.mul else None
    if both is None or any(map(is_constant, both)):
        return Operand(operand)
    return Operand(*both, top, bias, tuple(way))


def useless(node: fx.Node, left: Operand, right: Operand, ready: Mapping[fx.Node, int]) -> Refusal | None:
    """Why nothing waits for the factors; None where the product could be made before."""
    last = max(ready[one.factor] for one in (left, right) if one.factor is not None)
    if last > max(ready[left.value], ready[right.value]):
        return None
    return Refusal(node, "its factors are there as soon as what they multiply")


def unmovable(operand: Operand, along: int) -> Refusal | None:
    """Why the factor or the bias is not one number a row (`along` -1) or a column (-2) of the product's operand."""
    if operand.factor is None:
        return None
    shape = factor_shape(operand)
    if shape is None or shape[along] != 1:
        return Refusal(operand.factor, "it is no factor of the rows of a product behind the views between")
    if operand.bias is None:
        return None
    own = shape_of(operand.bias)
    seen = biased(operand, torch.arange(math.prod(own)).reshape(own).double(), along)  # numbers in the place of its values
    if seen.shape[-3 - along] == 1:
        return None
    return Refusal(operand.bias, "it is not the same in every row behind the views between")


def factor_shape(operand: Operand) -> tuple[int, ...] | None:
    """The shape of the factor, broadcast to the operand behind its views; None if its numbers are in another order there."""
    sizes = shape_of(operand.value)
    numbers = torch.arange(math.prod(sizes[:-1])).reshape(*sizes[:-1], 1)
    seen = numbers.expand(sizes)
    for step in operand.way:
        seen = seen if step.target is mpc.scale else run(step, seen)
    seen = reduced(seen)
    return tuple(seen.shape) if torch.equal(seen.reshape(-1), numbers.reshape(-1)) else None


def reduced(seen: Tensor, keep: int | None = None) -> Tensor:
    """A tensor without its repetitions: of size 1 along each dimension in which it is the same, but `keep`."""
    for dim in range(seen.dim()):
        first = seen.narrow(dim, 0, 1)
        seen = first if dim != keep and torch.equal(seen, first.expand_as(seen)) else seen
    return seen


def biased(operand: Operand, bias: Tensor, along: int) -> Tensor:
    """What the bias adds to the operand, as one row (`along` -1) or column (-2); as several, if they differ."""
    value = bias.expand(shape_of(operand.value))
    for step in operand.way:
        value = run(step, value)
    return reduced(value, keep=value.dim() + along)


def moved(edit: Edit, node: fx.Node, left: Operand, right: Operand) -> fx.Node:
    """The product of the values, times the factors, and what the biases add."""
    a, c = viewed(edit, node, left), viewed(edit, node, right)
    result = times(edit, node, edit.call(node, mpc.matmul, a, c, like=node), left, right)
    if left.bias is not None:
        added = edit.call(node, mpc.matmul, parameter(edit, node, left, -1), c, like=node)
        result = edit.call(node, mpc.add, result, times(edit, node, added, right), like=node)
    if right.bias is not None and not is_centred(node):
        added = edit.call(node, mpc.matmul, a, parameter(edit, node, right, -2), like=node)
        result = edit.call(node, mpc.add, result, times(edit, node, added, left), like=node)
        if left.bias is not None:
            both = edit.call(node, mpc.matmul, parameter(edit, node, left, -1), parameter(edit, node, right, -2), like=node)
            result = edit.call(node, mpc.add, result, both, like=node)
    return result


def viewed(edit: Edit, anchor: fx.Node, operand: Operand) -> fx.Node:
    value = operand.value
    for step in operand.way:
        value = edit.call(anchor, step.target, value, *step.args[1:], like=step)  # type: ignore[arg-type]
    return value


def factor_of(edit: Edit, anchor: fx.Node, operand: Operand) -> fx.Node | None:
    """The factor as it is broadcast to the operand."""
    if operand.factor is None:
        return None
    shape = factor_shape(operand)
    assert shape is not None
    return edit.call(anchor, aten.reshape.default, operand.factor, list(shape), like=operand.factor)


def times(edit: Edit, anchor: fx.Node, value: fx.Node, *operands: Operand) -> fx.Node:
    """`value` times the operands' factors, which still count as the sites' that they are of."""
    for one in operands:
        factor = factor_of(edit, anchor, one)
        if factor is not None and one.product is not None:
            value = edit.call(anchor, mpc.mul, value, factor, like=one.product)
            merge_result(one.product, value, str(anchor.meta.get("layer", "")))
    return value


def parameter(edit: Edit, anchor: fx.Node, operand: Operand, along: int) -> fx.Node:
    """The bias as a row of its own (a column, of the right operand)."""
    assert operand.bias is not None
    value, source = biased(operand, evaluate(edit, operand.bias), along), source_of(edit, operand.bias)
    return edit.parameter(anchor, value, source, f"{source.target}_row")


def is_centred(scores: fx.Node) -> bool:
    """Whether all that is read of the scores is without the mean of their rows."""
    last = len(shape_of(scores)) - 1
    others = [reader for reader, dim in means_taken(scores, scores.users).items() if dim != last]
    passed = (one.target in (mpc.add, mpc.scale) or keeps_rows(one) for one in others)
    return bool(scores.users) and all(passed) and all(map(is_centred, others))


FACTORS_AFTER_SCORES = Pass(
    name=NAME,
    graph="mpc",
    rewrite=rewrite,
    source="mpcc prototype: the factors of a norm behind q k^T",
    summary="Multiplies attention scores by the norm's factors, instead of queries and keys.",
    after=("divide_after_matmul",),
)
