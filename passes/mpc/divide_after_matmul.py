"""A factor per row moves behind the product, where it is ready later than what it multiplies, or the tensor is smaller. Exact.

    matmul(mul(e, r), v)        ->  mul(matmul(e, v), r)          e [..., M, N], r [..., M, 1], v [..., N, D]
    linear(mul(x, r), W, b)     ->  add(mul(linear(x, W), r), b)
    mul(mul(x, r), w)           ->  mul(mul(x, w), r)             w [N], a parameter

Softmax divides its exponentials by their sum, norms their values by a deviation: factors that are computed from e. Now e meets v
or the weights while r is still being computed, which saves a round; where D <= N, fewer values are opened too. Scales and views
of leading dimensions may stand between. What reads the product otherwise keeps it; a factor that comes no later moves only with
all its readers, when what they give is together no bigger than it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from mpcc.ir import mpc
from mpcc.ir.nn import shape_of
from mpcc.ir.site_ends import merge_result
from mpcc.rewrite import Pass
from mpcc.rewrite.constants import is_constant
from mpcc.rewrite.depth import depths
from mpcc.rewrite.edit import Edit, Refusal
from mpcc.rewrite.slices import keeps_rows

aten = torch.ops.aten
NAME = "divide_after_matmul"


@dataclass(frozen=True)
class Reader:
    """A product of e * r and `other`, by way of these scales and views, first one first."""

    product: fx.Node
    other: fx.Node
    way: tuple[fx.Node, ...]


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    while divide_once(edit):
        pass
    return edit.finish()


def divide_once(edit: Edit) -> bool:
    """Move the factors of one sweep; whether there were any. Each may free another (as in e * r1 * r2)."""
    moved, ready = False, depths(edit.graph)
    for node in list(edit.graph.nodes):
        operands = rows_and_factor(node) if node.target is mpc.mul and node.users else None  # users: not dropped yet
        if operands is None or not all(one in ready for one in operands):
            continue
        found = readers(node, node, ())
        products = [one for one in found if isinstance(one, Reader)]
        late = [one for one in products if waits(*operands, one, ready)]
        refusal = next((one for one in found if isinstance(one, Refusal)), None) or smaller(node, products)
        if refusal is not None and not late:
            edit.refuse(refusal)
            continue
        for reader in late if refusal is not None else products:
            move(edit, node, *operands, reader)
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


def readers(value: fx.Node, node: fx.Node, way: tuple[fx.Node, ...]) -> list[Reader | Refusal]:
    """All products that read `value`, and why another reader is none."""
    found: list[Reader | Refusal] = []
    for user in node.users:
        if user.target in (mpc.matmul, mpc.linear):
            other: Any = user.args[1]
            if node in user.args[1:] or len(shape_of(node)) < 2 or len(shape_of(other)) < 2:
                found.append(Refusal(user, f"{value.name} is not its left operand, or an operand is a vector"))
            else:
                found.append(Reader(user, other, way))
        elif user.target is mpc.mul and shape_of(user) == shape_of(node) and any(map(is_constant, user.args)):
            weight: Any = next(filter(is_constant, user.args))
            found.append(Reader(user, weight, way))
        elif user.target is mpc.scale or keeps_rows(user):
            found += readers(value, user, (*way, user))
        else:
            found.append(Refusal(user, f"it reads {value.name} too, whose factor would have to stay"))
    return found


def waits(e: fx.Node, r: fx.Node, reader: Reader, ready: Mapping[fx.Node, int]) -> bool:
    """Whether the product that could be made of e already waits for r."""
    return reader.other in ready and ready[r] > max(ready[e], ready[reader.other])


def smaller(product: fx.Node, found: list[Reader]) -> Refusal | None:
    """Why the values that the products give are not fewer than those of e * r; None if they are, or as many."""
    own, after = math.prod(shape_of(product)), sum(math.prod(shape_of(r.product)) for r in found)
    if after > own:
        return Refusal(product, f"its {own} values are fewer than the {after} of the products behind it")
    same = next((r.product for r in found if r.product.target is mpc.mul), None)
    return None if same is None else Refusal(same, "a product by weights is no smaller, and its factor comes no later")


def move(edit: Edit, product: fx.Node, e: fx.Node, r: fx.Node, reader: Reader) -> None:
    """Put the factor of `product`, e * r, behind what one reader makes of it; it still counts as the site's that it is of."""
    node = reader.product
    bias = node.args[2] if node.target is mpc.linear and len(node.args) > 2 else node.kwargs.get("bias")
    for step in reader.way:
        if step.target is mpc.scale:
            e = edit.call(node, mpc.scale, e, *step.args[1:], like=step)
            continue
        e = edit.call(node, step.target, e, *step.args[1:], like=step)  # type: ignore[arg-type]
        rest = ([*shape_of(step)[:-1], 1],) if step.target is aten.reshape.default else step.args[1:]
        r = edit.call(node, step.target, r, *rest, like=step)  # type: ignore[arg-type]
    plain = edit.call(node, node.target, e, reader.other, like=node)  # type: ignore[arg-type]
    result = edit.call(node, mpc.mul, plain, r, like=product)
    merge_result(product, result, str(node.meta.get("layer", "")))
    if bias is not None:
        result = edit.call(node, mpc.add, result, bias, like=node)
    edit.replace(node, result)


DIVIDE_AFTER_MATMUL = Pass(
    name=NAME,
    graph="mpc",
    rewrite=rewrite,
    source="mpcc prototype: the sum of a softmax divides after P V",
    summary="Multiplies by a factor per row behind the product, where that saves a round or bytes.",
    after=("centre_writers",),
)
