"""How each operation of a program is written for a batch: one rule for each of `mpcc.ir.opcodes`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

from mpcc.ir import curve, dealer, online
from mpcc.ir.nn import shape_of
from mpcc.ir.opcodes import aten

from .batch_graph import Batch, Rule, refused

# ---- element by element, and what flattens its operands itself ---------------------------------------------------------


def elementwise(batch: Batch, node: fx.Node) -> fx.Node:
    return batch.copy(node, *batch.broadcast(node))


def natural(batch: Batch, node: fx.Node) -> fx.Node:
    """The kernel takes what it gets."""
    return batch.copy(node)


def of_shape(place: int) -> Rule:
    """Argument `place` is a shape that the result has."""

    def rule(batch: Batch, node: fx.Node) -> fx.Node:
        args = list(fx.node.map_arg(tuple(node.args), lambda old: batch.made[old]))
        args[place] = [batch.size, *_sizes(node.args[place])]
        return batch.copy(node, *args)

    return rule


def drawn_flat(batch: Batch, node: fx.Node) -> fx.Node:
    """roots(shape): of size times as many trees."""
    count, *rest = _sizes(node.args[0])
    return batch.copy(node, [batch.size * count, *rest])


def plane_masks(batch: Batch, node: fx.Node) -> fx.Node:
    if node.name not in batch.planes:
        raise refused(node, "masks no comparison")
    return batch.copy(node, batch.planes[node.name])


def weight_share(batch: Batch, node: fx.Node) -> fx.Node:
    """W is the same for all inputs; as a share it is theirs."""
    weight, shape = node.args
    made = batch.call(node.target, (batch.new(weight), list(_sizes(shape))), node, f"{node.name}_once")
    return batch.call(aten.expand.default, (made, [batch.size, *_sizes(shape)]), node, node.name)


def add_weight(batch: Batch, node: fx.Node) -> fx.Node:
    x, weight, shape = node.args
    sizes = _sizes(shape)
    return batch.copy(node, batch.aligned(_node(x), len(sizes)), batch.new(weight), [batch.size, *sizes])


def total(batch: Batch, node: fx.Node) -> fx.Node:
    x, dims, keep = node.args
    rank = len(shape_of(_node(x)))
    return batch.copy(node, batch.new(x), _moved(_sizes(dims) or list(range(rank)), rank), keep)


# ---- products ----------------------------------------------------------------------------------------------------------


def bilinear(operands: int) -> Rule:
    """A product; the first so many nodes are its operands and their masks, others are shares of the result."""

    def rule(batch: Batch, node: fx.Node) -> fx.Node:
        kind, x, y = node.args[0], _node(node.args[1]), _node(node.args[2])
        if kind == "conv":
            return _convolution(batch, node)
        rank = max(len(shape_of(x)), len(shape_of(y)))
        if kind != "mul" and _as_matrix(batch, node, x, y):
            rank = 0
        args = list(node.args)
        for place, arg in enumerate(args):
            if isinstance(arg, fx.Node):
                args[place] = batch.aligned(arg, rank) if place <= operands else batch.new(arg)
        return batch.copy(node, *args)

    return rule


def _as_matrix(batch: Batch, node: fx.Node, x: fx.Node, y: fx.Node) -> bool:
    """Whether x is multiplied by one fixed matrix from the right, whatever its dimensions in front.

    Elsewhere dimensions in front are a batch already, and a vector with one would be taken for a matrix.
    """
    one = batch.kinds[batch.made[y]] == "fixed" and len(shape_of(y)) <= 2
    if one and node.args[0] != "rmatmul":
        return True
    for operand in (x, y):
        if len(shape_of(operand)) < 2 and batch.kinds[batch.made[operand]] == "values":
            raise refused(node, "multiplies vectors")
    return False


def _convolution(batch: Batch, node: fx.Node) -> fx.Node:
    """The batch joins the first dimension of x, of its mask, and of the result."""
    if batch.kinds[batch.made[_node(node.args[2])]] != "fixed":
        raise refused(node, "convolves two secret values")
    args: list[Any] = []
    for arg in node.args:
        if isinstance(arg, fx.Node):
            made = batch.new(arg)
            sizes = shape_of(made)
            joined = [sizes[0] * sizes[1], *sizes[2:]]
            args.append(batch.view(aten.reshape.default, made, made, joined) if batch.kinds[made] == "values" else made)
        else:
            args.append(arg)
    product = batch.call(node.target, args, node, f"{node.name}_joined")
    return batch.call(aten.reshape.default, (product, [batch.size, *shape_of(node)]), node, node.name)


# ---- views -------------------------------------------------------------------------------------------------------------


def view(change: Callable[[Batch, fx.Node, int, list[Any]], None]) -> Rule:
    """A view of values: `change` writes the arguments for the dimension in front."""

    def rule(batch: Batch, node: fx.Node) -> fx.Node:
        for operand in node.all_input_nodes:
            if batch.kinds[batch.made[operand]] == "flat":
                raise refused(node, "is a view of packed bits")
        args = list(fx.node.map_arg(tuple(node.args), lambda old: batch.whole(old)))
        change(batch, node, len(shape_of(node.all_input_nodes[0])), args)
        return batch.copy(node, *args)

    return rule


def _reshape(batch: Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    args[1] = [batch.size, *shape_of(node)]


def _expand(batch: Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    args[0] = batch.aligned(_node(node.args[0]), len(shape_of(node)))
    args[1] = [batch.size, *shape_of(node)]


def _permute(batch: Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    args[1] = [0, *_moved(args[1], rank)]


def _one_dim(batch: Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    args[1:2] = _moved([args[1] if len(args) > 1 else 0], rank)


def _dims(batch: Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    args[1] = _moved(args[1], rank)


def _roll(batch: Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    if len(args) < 3 or not args[2]:
        raise refused(node, "rolls all dimensions as one")
    args[2] = _moved(args[2], rank)


def _gather(batch: Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    args[1] = [None, *args[1]]


def _same(batch: Batch, node: fx.Node, rank: int, args: list[Any]) -> None:
    pass


def _moved(dims: Sequence[int], rank: int) -> list[int]:
    return [dim % rank + 1 for dim in dims]


def _sizes(value: Any) -> list[int]:
    return [int(size) for size in value]


def _node(value: Any) -> fx.Node:
    assert isinstance(value, fx.Node)
    return value


RULES: dict[Any, Rule] = {
    **dict.fromkeys(
        (
            online.open_, online.reveal, online.flooded, online.mask_with, online.times, online.combine, online.add_public,
            online.moved, online.truncate_locally, online.truncated, online.multilinear, online.power_sum, online.select,
            dealer.high, dealer.top, dealer.multiply, dealer.point,
        ),
        elementwise,
    ),
    **dict.fromkeys(
        (
            online.open_bits, online.mask_bits, online.leaves, online.planes, online.and_planes, curve.curve, dealer.tables,
            dealer.sign, dealer.mask_products, dealer.packed, dealer.powers, dealer.tree, dealer.tree_keys,
            online.open_weight,
        ),
        natural,
    ),
    **dict.fromkeys((dealer.mask, dealer.random_bits, dealer.noise, dealer.weight_mask), of_shape(0)),
    dealer.roots: drawn_flat,
    dealer.plane_masks: plane_masks,
    dealer.product: bilinear(2),
    online.bit_number: of_shape(2),
    online.weight_share: weight_share,
    online.add_weight: add_weight,
    online.total: total,
    online.product: bilinear(4),
    online.weight_product: bilinear(2),
    online.public_product: bilinear(2),
    online.mask_weight_product: bilinear(2),
    aten.reshape.default: view(_reshape),
    aten.permute.default: view(_permute),
    aten.expand.default: view(_expand),
    aten.slice.Tensor: view(_one_dim),
    aten.select.int: view(_one_dim),
    aten.cat.default: view(_one_dim),
    aten.constant_pad_nd.default: view(_same),
    aten.roll.default: view(_roll),
    aten.flip.default: view(_dims),
    online.gather: view(_gather),
    online.apply_mask: view(_same),
    online.scale_rows: view(_same),
}
"""One for each operation of `mpcc.ir.opcodes`: a test holds the two to each other."""
