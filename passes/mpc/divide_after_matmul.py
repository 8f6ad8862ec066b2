"""A factor per row moves behind the matmul, where the tensor is smaller. Exact up to rounding.

    matmul(mul(e, r), v)        ->  mul(matmul(e, v), r)          e [..., M, N], r [..., M, 1], v [..., N, D], D <= N
    linear(mul(x, r), W, b)     ->  add(mul(linear(x, W), r), b)

Softmax divides its exponentials by their sum: e * r would be opened, N values a row, to be multiplied by v. Now e
meets v while r is still being computed, and D values a row are opened: fewer bytes and one round less. Scales and
views of leading dimensions may stand between. A product moves only with all its readers, when what they give is
together no bigger than it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import fx

from mpcc.ir import mpc
from mpcc.ir.nn import shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.edit import Edit, Refusal
from mpcc.rewrite.slices import keeps_rows

aten = torch.ops.aten
NAME = "divide_after_matmul"


@dataclass(frozen=True)
class Reader:
    """A product that reads e * r, by way of these scales and views, first one first."""

    product: fx.Node
    way: tuple[fx.Node, ...]


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    while divide_once(edit):
        pass
    return edit.finish()


def divide_once(edit: Edit) -> bool:
    """Move the factors of one sweep; whether there were any. Each may free another (as in e * r1 * r2)."""
    moved = False
    for node in list(edit.graph.nodes):
        operands = rows_and_factor(node) if node.target is mpc.mul and node.users else None  # users: not dropped yet
        if operands is None:
            continue
        found = readers(node, node, ())
        refusal = found if isinstance(found, Refusal) else whole(operands[0], found) or smaller(node, found)
        if isinstance(found, Refusal) or refusal is not None:
            edit.refuse(refusal)  # type: ignore[arg-type]
            continue
        for reader in found:
            move(edit, *operands, reader)
            edit.drop(reader.way[-1] if reader.way else node)
        moved = True
    return moved


def rows_and_factor(product: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """(e, r) of e * r in either order: r has one value a row, e the shape of the product."""
    shape = shape_of(product)
    for e, r in (product.args, product.args[::-1]):
        if not (isinstance(e, fx.Node) and isinstance(r, fx.Node)):
            return None
        if shape and shape_of(e) == shape and shape[-1] > 1 and shape_of(r) == (*shape[:-1], 1):
            return e, r
    return None


def readers(value: fx.Node, node: fx.Node, way: tuple[fx.Node, ...]) -> list[Reader] | Refusal:
    """All products that read `value`, or the first reader that is none."""
    found: list[Reader] = []
    for user in node.users:
        if user.target in (mpc.matmul, mpc.linear):
            if node in user.args[1:] or len(shape_of(node)) < 2 or len(shape_of(user.args[1])) < 2:  # type: ignore[arg-type]
                return Refusal(user, f"{value.name} is not its left operand, or an operand is a vector")
            found.append(Reader(user, way))
        elif user.target is mpc.scale or keeps_rows(user):
            more = readers(value, user, (*way, user))
            if isinstance(more, Refusal):
                return more
            found += more
        else:
            return Refusal(user, f"it reads {value.name} too, whose factor would have to stay")
    return found


def whole(e: fx.Node, found: list[Reader]) -> Refusal | None:
    """Why e may not meet a layer before its factor: a norm's centred values come straight from the residual stream.

    A layer needs its operand untruncated, so every layer before would have to keep its sums coarse.
    """
    if any(r.product.target is mpc.linear for r in found) and any(user.target is mpc.square for user in e.users):
        return Refusal(e, "it is the centred value of a norm, which a layer would meet with all its bits")
    return None


def smaller(product: fx.Node, found: list[Reader]) -> Refusal | None:
    """Why the values that the products give are more than those of e * r; None if they are not."""
    own, after = math.prod(shape_of(product)), sum(math.prod(shape_of(r.product)) for r in found)
    if after <= own:
        return None
    return Refusal(product, f"its {own} values are fewer than the {after} of the products behind it")


def move(edit: Edit, e: fx.Node, r: fx.Node, reader: Reader) -> None:
    """Put the factor behind one product."""
    node = reader.product
    bias = node.args[2] if node.target is mpc.linear and len(node.args) > 2 else node.kwargs.get("bias")
    for step in reader.way:
        if step.target is mpc.scale:
            e = edit.call(node, mpc.scale, e, *step.args[1:], like=step)
            continue
        e = edit.call(node, step.target, e, *step.args[1:], like=step)  # type: ignore[arg-type]
        rest = [*shape_of(step)[:-1], 1] if step.target is aten.reshape.default else step.args[1]
        r = edit.call(node, step.target, r, rest, like=step)  # type: ignore[arg-type]
    plain = edit.call(node, node.target, e, node.args[1], like=node)  # type: ignore[arg-type]
    result = edit.call(node, mpc.mul, plain, r, like=node)
    if bias is not None:
        result = edit.call(node, mpc.add, result, bias, like=node)
    edit.replace(node, result)


DIVIDE_AFTER_MATMUL = Pass(
    name=NAME,
    graph="mpc",
    rewrite=rewrite,
    source="mpcc prototype: the sum of a softmax divides after P V",
    summary="Multiplies by a factor per row behind the matmul, where the tensor is smaller.",
    after=("centre_keys",),
)
