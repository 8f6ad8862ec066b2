"""The parts of a split site stay apart through the products before and behind it, up to their own savings. Exact.

    p, q = take(x W, i), take(x W, j);  join(f(p), g(q)) V    ->   join(f(take(x, i) W) V, g(take(x, j) W) V)

Heads of attention: each part computes its own scores and meets its own values, so that scaling heads never compute
scores where `reassociate_attention` finds q (k^T v) cheaper, and each other part divides after its own product.
Queries: the keys and values are shared, and opened once. Tokens of an MLP: the tokens whose activation is the identity
have two linear layers in a row, one after `fuse_linear_mpc`; where no part has, nothing is gained and nothing moves.
Parts are disjoint, so as many values are opened as before; no round is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from mpcc.approximate.split import inverse, join
from mpcc.ir import mpc
from mpcc.ir.nn import shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.edit import Edit, Refusal

aten = torch.ops.aten
NAME = "separate_parts"
OPENS = frozenset({mpc.mul, mpc.square, mpc.polynomial, mpc.curve, mpc.matmul, mpc.linear, mpc.conv, mpc.less, mpc.select})
LOCAL = (mpc.scale, mpc.add, mpc.sub, aten.permute.default)


@dataclass(frozen=True)
class Joined:
    """The tensors that a joined value consists of, along which dimension, at which positions; `nodes` join them."""

    parts: tuple[fx.Node, ...]
    dim: int
    indices: tuple[tuple[int, ...], ...]
    nodes: tuple[fx.Node, ...]


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    for node in list(graph_module.graph.nodes):
        found = joined(node) if node.op == "call_function" else None
        if found is not None:
            _report(edit, push(edit, node, found))
    for node in reversed(list(graph_module.graph.nodes)):
        if taken_apart(node):
            _report(edit, pull(edit, node))
    return edit.finish()


def _report(edit: Edit, refusal: Refusal | None) -> None:
    if refusal is not None:
        edit.refuse(refusal)


# ---------------------------------------------------------------------------------------------------- behind the site


def joined(node: fx.Node) -> Joined | None:
    """What the parts of a split site were joined to at `node`, the last node that joins them; None elsewhere."""
    cat: Any = node.args[0] if node.target is mpc.gather else node
    order: Any = node.args[2] if node.target is mpc.gather else None
    if cat.target is not aten.cat.default or "site" not in cat.meta:
        return None
    parts: tuple[fx.Node, ...] = tuple(cat.args[0])
    if not all(part.meta.get("part") for part in parts):
        return None
    if node is cat and any(user.target is mpc.gather and user.meta.get("site") for user in cat.users):
        return None  # the take behind it is the last node
    dim: int = cat.args[1]
    sizes = [shape_of(part)[dim] for part in parts]
    places = inverse(order) if order is not None else tuple(range(sum(sizes)))
    indices, start = [], 0
    for size in sizes:
        indices.append(tuple(places[start : start + size]))
        start += size
    return Joined(parts, dim, tuple(indices), (cat,) if node is cat else (cat, node))


def push(edit: Edit, node: fx.Node, found: Joined) -> Refusal | None:
    """Let every part meet the product that reads the joined value; why not, where not."""
    way: list[Any] = []
    before: fx.Node = node
    while len(before.users) == 1 and (reader := next(iter(before.users))).target is mpc.scale:
        way.append(reader)
        before = reader
    if len(before.users) != 1:
        return Refusal(node, f"{len(before.users)} nodes read {before.name}")
    rank = len(shape_of(before))
    if reader.target not in (mpc.matmul, mpc.linear) or reader.args[0] is not before:
        return Refusal(reader, "it is no product whose left operand is the joined value")
    if found.dim == rank - 1:
        return Refusal(reader, "the parts are of the dimension that it sums over")
    if reader.target is mpc.linear and not any(linear_above(part) for part in found.parts):
        return Refusal(reader, "no part is itself the result of a linear layer, so none would be saved")
    right = reader.args[1]
    assert isinstance(right, fx.Node)
    if reader.target is mpc.matmul and (len(shape_of(right)) < 2 or rank < 2):
        return Refusal(reader, "an operand is a vector")
    made = []
    for part, index in zip(found.parts, found.indices, strict=True):
        value = part
        for step in way:
            value = edit.call(reader, mpc.scale, value, step.args[1], like=part)
        operand: Any = right
        if reader.target is mpc.matmul:
            operand = _operand(edit, reader, right, rank, found.dim, index) if found.dim < rank - 2 else right
        target: Any = reader.target
        product = edit.call(reader, target, value, operand, *reader.args[2:], like=reader)
        product.meta["part"] = part.meta["part"]
        made.append(product)
    edit.replace(reader, edit.call(reader, join, made, found.dim, found.indices, like=reader))
    edit.drop(before)
    return None


def linear_above(node: fx.Node) -> bool:
    """Whether `node` is a linear layer's result, or scales or some positions of one."""
    value: Any = node
    while value.target in (mpc.scale, mpc.gather):
        value = value.args[0]
    return bool(value.target is mpc.linear)


# --------------------------------------------------------------------------------------------------- before the site


def taken_apart(node: fx.Node) -> bool:
    """Whether nothing but parts of one dimension is read of what `node` computes."""
    users = list(node.users)
    if node.op != "call_function" or not users or not all(user.target is mpc.gather for user in users):
        return False
    return len({user.args[1] for user in users}) == 1 and all(user.meta.get("part") for user in users)


def pull(edit: Edit, node: fx.Node) -> Refusal | None:
    """Compute the parts of `node` one by one from parts of its operands; why not, where not."""
    dim: int = next(iter(node.users)).args[1]  # type: ignore[assignment]
    refusal = unpullable(node, dim)
    if refusal is not None:
        return refusal
    for user in list(node.users):
        index: tuple[int, ...] = tuple(user.args[2])  # type: ignore[arg-type]
        args = _operands(edit, user, node, dim, index)
        new = edit.call(user, node.target, *args, like=node)  # type: ignore[arg-type]
        new.meta["part"] = user.meta["part"]
        edit.replace(user, new)
    edit.graph.erase_node(node)
    return None


def unpullable(node: fx.Node, dim: int) -> Refusal | None:
    """Why parts of `node` are not computed one by one, or should not be."""
    if node.target in LOCAL:
        above = [a for a in node.all_input_nodes if _leads_to_product(a)]
        return None if above else Refusal(node, "no product comes before it")
    if node.target is mpc.linear:
        if dim == len(shape_of(node)) - 1:
            return Refusal(node, "its channels are split")
        if not any(_meets_linear(user) for user in node.users):
            return Refusal(node, "no part meets another linear layer at once, so none would be saved")
        return _opened_elsewhere(node, node.args[:1])
    if node.target is mpc.matmul:
        if min(len(shape_of(a)) for a in node.all_input_nodes) < 2:
            return Refusal(node, "an operand is a vector")
        rank = len(shape_of(node))
        return _opened_elsewhere(node, node.args[1:2] if dim == rank - 1 else node.args[:1] if dim == rank - 2 else node.args)
    return Refusal(node, "it is no product")


def _leads_to_product(node: fx.Node) -> bool:
    """Whether a product lies above, with local steps between that nothing else reads."""
    if len(node.users) != 1:
        return False
    return node.target in (mpc.matmul, mpc.linear) or (
        node.target in LOCAL and any(_leads_to_product(a) for a in node.all_input_nodes)
    )


def _meets_linear(node: fx.Node) -> bool:
    users = list(node.users)
    while len(users) == 1 and users[0].target is mpc.scale:
        users = list(users[0].users)
    return len(users) == 1 and users[0].target is mpc.linear


def _opened_elsewhere(node: fx.Node, operands: Sequence[object]) -> Refusal | None:
    """An operand that another product opens whole: its parts would be opened once more."""
    for operand in operands:
        others = [user for user in operand.users if user is not node and user.target in OPENS]  # type: ignore[attr-defined]
        if others:
            return Refusal(node, f"{others[0].name} opens {operand.name} as a whole")  # type: ignore[attr-defined]
    return None


def _operands(edit: Edit, anchor: fx.Node, node: fx.Node, dim: int, index: tuple[int, ...]) -> list[Any]:
    """The arguments of `node` for its part `index` of dimension `dim`."""
    args: list[Any] = list(node.args)
    rank = len(shape_of(node))
    if node.target is mpc.linear or node.target is mpc.scale:
        return [_operand(edit, anchor, args[0], rank, dim, index), *args[1:]]
    if node.target is aten.permute.default:
        order: list[int] = list(args[1])
        return [_operand(edit, anchor, args[0], rank, order[dim] % rank, index), order]
    if node.target is mpc.matmul and dim >= rank - 2:
        which = dim - (rank - 2)
        inner = len(shape_of(args[which])) - (rank - dim)
        args[which] = edit.call(anchor, mpc.gather, args[which], inner, index, like=args[which])
        return args
    return [_operand(edit, anchor, a, rank, dim, index) for a in args]


def _operand(edit: Edit, anchor: fx.Node, operand: object, rank: int, dim: int, index: tuple[int, ...]) -> object:
    """The part of an operand, broadcast to `rank` dimensions, that belongs to positions of `dim` of the result."""
    if not isinstance(operand, fx.Node):
        return operand
    sizes = shape_of(operand)
    own = dim - (rank - len(sizes))
    if own < 0 or sizes[own] == 1:
        return operand
    part = edit.call(anchor, mpc.gather, operand, own, index, like=operand)
    part.meta["part"] = anchor.meta.get("part") or "part"
    return part


SEPARATE_PARTS = Pass(
    name=NAME,
    graph="mpc",
    rewrite=rewrite,
    source="MPCViT and MPCViT+ (arXiv 2211.13955): heads and tokens of different kinds in one layer",
    summary="Computes the heads or tokens of a split site apart, so that each saves what it would save as a whole layer.",
)
