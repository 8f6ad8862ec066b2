"""A mean that norms take off the residual stream is taken off at compile time, from the weights that write to it. Exact.

    x = add(a, linear(o, W, b));  sub(x, mean(x, -1))   ->   add(sub(a, mean(a, -1)), linear(o, W', b'))

with W' = W - the mean of its rows, b' = b - its mean; likewise for convolutions, products by a constant, parameters. A value
whose readers all take its mean off is computed without it, whatever sums, views and scales lie between. The mean itself would be
local, but its division by N costs log2 N bits of the ring, which all products between two lifts share (docs/architecture.md).
What no weights absorb keeps its mean until it is taken off.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from mpcc.ir import mpc
from mpcc.ir.nn import shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.constants import evaluate, is_constant, source_of, sources_of
from mpcc.rewrite.edit import Edit, Refusal
from mpcc.rewrite.match import positional
from mpcc.rewrite.means import mean_taken, means_taken, minus_mean

aten = torch.ops.aten
NAME = "centre_writers"
SUMS = (mpc.add, mpc.sub)
ALONG_ONE = (aten.slice.Tensor, aten.select.int, mpc.gather)
"""Views along the dimension that is their second argument."""


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    while swept(edit):
        edit.refusals.clear()  # those of the last sweep hold
    return edit.finish()


def swept(edit: Edit) -> bool:
    """From the output to the inputs, since a mean that moved up is met again at its operands; whether any moved."""
    moved = False
    for node in reversed(list(edit.graph.nodes)):
        if node.op != "call_function" or is_constant(node):
            continue
        taken = means_taken(node, node.users)
        dims = set(taken.values())
        if len(dims) != 1 or None in dims:
            continue
        dim: Any = dims.pop()
        refusal = unabsorbed(node, dim)
        if refusal is not None:
            edit.refuse(refusal)
            continue
        new = centred(edit, node, dim)
        for reader in taken:
            mean: Any = reader.args[1]
            edit.replace(reader, new)
            edit.drop(mean)
        moved = True
    return moved


def unabsorbed(node: fx.Node, dim: int) -> Refusal | None:
    """Why no weights above `node` could do without its mean; None where some can."""
    if is_constant(node) or writes(node, dim) or (node.args and mean_taken(node.args[0], node) == dim):
        return None
    for operand, inner in operands(node, dim):
        others = means_taken(operand, (user for user in operand.users if user is not node))
        if is_constant(operand) or set(others.values()) <= {inner}:
            if unabsorbed(operand, inner) is None:
                return None
    return Refusal(node, "no weights above it can do without its mean")


def writes(node: fx.Node, dim: int) -> bool:
    """Whether `node` is a product by weights of the server whose channels lie along `dim`."""
    last = dim == len(shape_of(node)) - 1
    if node.target in (mpc.linear, mpc.conv):
        weight, bias = (*positional(node), None)[1:3]
        given = all(is_constant(one) for one in (weight, bias) if one is not None)
        return given and (last if node.target is mpc.linear else dim == 1 and positional(node)[6] == 1)
    if node.target is not mpc.matmul or not last or is_constant(node.args[0]):
        return False
    return is_constant(node.args[1]) and len(shape_of(node.args[1])) == 2  # type: ignore[arg-type]


def operands(node: fx.Node, dim: int) -> list[tuple[fx.Node, int]]:
    """What `node` is made of value by value, with the dimension that becomes `dim`; nothing where values of `dim` mix.

    A summand that is the same all along `dim` is nothing but mean, and left out.
    """
    if node.target not in (*SUMS, mpc.scale, mpc.sum, *mpc.VIEWS):
        return []
    found = []
    for one in node.all_input_nodes:
        inner = _inner(node, one, dim)
        if inner is None:
            return []
        if inner >= 0 and (shape_of(one)[inner] > 1 or node.target not in SUMS):
            found.append((one, inner))
    return found


def _inner(node: fx.Node, operand: fx.Node, dim: int) -> int | None:
    """The dimension of an operand that is `dim` of the result, counted from the front; None if there is none."""
    before, after = shape_of(operand), shape_of(node)
    args: Any = node.args
    if node.target in SUMS:
        return dim - len(after) + len(before)
    if node.target is mpc.scale:
        return dim
    if node.target is aten.permute.default:
        return int(args[1][dim]) % len(before)
    if node.target is aten.reshape.default:
        found = [d for d in range(len(before)) if math.prod(before[:d]) == math.prod(after[:dim]) and before[d] == after[dim]]
        return found[-1] if found else None
    if node.target is aten.cat.default:
        return None if args[1] % len(after) == dim else dim
    if node.target in ALONG_ONE:
        along = args[1] % len(before)
        inner = dim + (node.target is aten.select.int and dim >= along)
        return None if inner == along else inner
    if node.target is mpc.sum:
        return _summed(node, dim, len(before))
    return None


def _summed(node: fx.Node, dim: int, rank: int) -> int | None:
    _, dims, keepdim = (*positional(node), False)[:3]
    gone = {d % rank for d in dims}
    inner = dim if keepdim else [d for d in range(rank) if d not in gone][dim]
    return None if inner in gone else inner


def centred(edit: Edit, node: fx.Node, dim: int) -> fx.Node:
    """`node` without its mean along `dim`, from operands without theirs."""
    if writes(node, dim):
        return _product(edit, node)
    if mean_taken(node.args[0], node) == dim:
        return node
    made = {one: _operand(edit, node, one, inner) for one, inner in operands(node, dim)}
    if node.target in SUMS and len(made) < 2:
        (only,) = made.values()
        negative = node.target is mpc.sub and node.args[0] not in made
        return edit.call(node, mpc.scale, only, -1.0, like=node) if negative else only
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), made.__getitem__)
    return edit.call(node, node.target, *args, like=node, **kwargs)  # type: ignore[arg-type]


def _operand(edit: Edit, anchor: fx.Node, operand: fx.Node, dim: int) -> fx.Node:
    """An operand without its mean: met again by the sweep where that can move further up."""
    if is_constant(operand):
        return _parameter(edit, operand, dim, anchor)
    if mean_taken(operand.args[0] if operand.args else None, operand) == dim:
        return operand
    return minus_mean(edit, anchor, operand, dim)


def _parameter(edit: Edit, node: fx.Node, dim: int, anchor: fx.Node) -> fx.Node:
    value, source = evaluate(edit, node), source_of(edit, node)
    name = f"{source.target}_centred"
    return edit.parameter(anchor, value - value.mean(dim, keepdim=True), source, name, made_of=sources_of(node))


def _product(edit: Edit, node: fx.Node) -> fx.Node:
    """A product by weights whose results have no mean."""
    x, weight, *rest = positional(node)
    over = -1 if node.target is mpc.matmul else 0
    values = [_parameter(edit, weight, over, node)]
    if node.target is not mpc.matmul and rest:
        values.append(None if rest[0] is None else _parameter(edit, rest[0], 0, node))  # type: ignore[arg-type]
    return edit.call(node, node.target, x, *values, *rest[1:], like=node)  # type: ignore[arg-type]


CENTRE_WRITERS = Pass(
    name=NAME,
    graph="mpc",
    rewrite=rewrite,
    source="mpcc prototype: the residual stream is written without its mean",
    summary="Takes the mean that norms subtract off the weights which write to the residual stream.",
    after=("separate_parts",),
)
