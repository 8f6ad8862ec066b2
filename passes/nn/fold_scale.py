"""A constant factor or term per channel moves into the product before or behind it. Exact.

    mul(linear(x, W, b), gamma)   ->  linear(x, W * gamma, b * gamma)          LayerScale; also div, also a convolution
    add(linear(x, W, b), c)       ->  linear(x, W, b + c)                      also sub
    linear(mul(x, gamma), W, b)   ->  linear(x, W * gamma, b)                  if products are all that reads it
    linear(add(x, c), W, b)       ->  linear(x, W, b + W c)                    likewise
    mul(matmul(linear(x, W, b), y), t)  ->  matmul(linear(x, W * t, b * t), y)     t a single number: a trained temperature

A secure product by a parameter opens the value once more: a round and 16 bytes a value. Factors that are plain
numbers are free and stay where they are (`scale` keeps their bits). Between the two there may be views and plain
factors that only one reader sees. `fold_constants` has made x / c into x * (1 / c) before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from mpcc.ir.nn import shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.channels import VIEWS, Product, numbered, readers, rewrite_product, scale_inputs, weight_of
from mpcc.rewrite.edit import Edit, Refusal, arguments, is_constant, run

aten = torch.ops.aten
NAME = "fold_scale"
NUMBERS = (aten.mul.Tensor, aten.div.Tensor)


@dataclass(frozen=True)
class Way:
    """The product above a value, the factor by plain numbers in between, and the channel at each of its positions."""

    product: Product
    factor: float
    numbers: Tensor


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    while fold_once(edit):  # a term that has gone may have stood in the way of a factor
        pass
    return edit.finish()


def fold_once(edit: Edit) -> bool:
    """Fold what can be folded in one sweep; whether there was anything."""
    folded = False
    for node in list(edit.graph.nodes):
        operands = value_and_constant(node)
        if operands is None:
            continue
        up = fold_up(edit, node, *operands)
        down = fold_down(edit, node, *operands) if up is not None else None
        if up is None or down is None:
            folded = True
        else:
            edit.refuse(up)
            edit.refuse(down)
    return folded


def value_and_constant(node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """The operands of a product or sum of a value and a parameter that does not broadcast the value."""
    if node.target not in (aten.mul.Tensor, aten.add.Tensor, aten.sub.Tensor):
        return None
    orders = [node.args] if node.target is aten.sub.Tensor else [node.args, node.args[::-1]]
    for value, constant in orders:
        if is_constant(constant) and isinstance(value, fx.Node) and not is_constant(value):
            return (value, constant) if shape_of(value) == shape_of(node) else None  # type: ignore[return-value]
    return None


def fold_up(edit: Edit, node: fx.Node, value: fx.Node, constant: fx.Node) -> Refusal | None:
    """Into the product that makes the value; why not, else None."""
    factor = node.target is aten.mul.Tensor and edit.tensor(constant).numel() == 1
    way = product_above(node, value, through_matmul=factor)
    if isinstance(way, Refusal):
        return way
    product, bias = way.product, way.product.bias
    is_sum = node.target is not aten.mul.Tensor
    given = per_channel(way.numbers, edit.tensor(constant).double(), product, 0.0 if is_sum else 1.0)
    if given is None:
        return Refusal(node, f"{constant.name} is not one number a channel of {product.node.name}")
    weight = edit.tensor(product.weight).double()
    weight = weight.T if product.node.target is aten.matmul.default else weight  # [out, in, ...]
    if is_sum:
        more: Tensor | None = given / way.factor * (-1 if node.target is aten.sub.Tensor else 1)
    else:
        weight = weight * given.reshape(-1, *[1] * (weight.dim() - 1))
        more = edit.tensor(bias).double() * (given - 1) if bias is not None else None
    new = rewrite_product(edit, product, weight, more, [constant])
    edit.replace(node, new if value is product.node else value)
    return None


def product_above(reader: fx.Node, value: fx.Node, *, through_matmul: bool = False) -> Way | Refusal:
    """The product by constants that `value` is views and plain factors of, if each is read once.

    `through_matmul`: a single factor of a matrix product may as well be one of either of its operands.
    """
    chain, factor, top = list[fx.Node](), 1.0, value
    while True:
        if set(top.users) != {reader}:
            return Refusal(top, f"{len(top.users)} nodes read it")
        if top.target not in VIEWS and not (top.target in NUMBERS and not isinstance(top.args[1], fx.Node)):
            break
        if top.target in NUMBERS:
            number: float = top.args[1]  # type: ignore[assignment]
            factor *= number if top.target is aten.mul.Tensor else 1 / number
        else:
            chain.append(top)
        reader, top = top, top.args[0]  # type: ignore[assignment]
    if through_matmul and top.target is aten.matmul.default and not any(is_constant(operand) for operand in top.all_input_nodes):
        ways = [product_above(top, operand, through_matmul=True) for operand in top.all_input_nodes]
        return next((way for way in ways if isinstance(way, Way)), ways[0])
    weight = weight_of(top)
    if isinstance(weight, Refusal):
        return Refusal(top, "no product by constants")
    if any(view.target is aten.constant_pad_nd.default for view in chain):
        return Refusal(top, "zeros are padded to it")
    sizes = shape_of(top)
    numbers = numbered(sizes, 1 if top.target is aten.convolution.default else len(sizes) - 1)
    for view in reversed(chain):
        numbers = run(view, numbers)
    return Way(Product(top, weight, arguments(top).get("bias"), numbers, False), factor, numbers)


def per_channel(numbers: Tensor, constant: Tensor, product: Product, missing: float) -> Tensor | None:
    """One number a channel such that `constant` is that of the channel at every position; None if there is none."""
    sizes = shape_of(product.node)
    channels = sizes[1 if product.node.target is aten.convolution.default else -1]
    given = torch.full((channels,), missing, dtype=torch.float64)
    constant = constant.expand(numbers.shape)
    given[numbers] = constant
    return given if torch.equal(given[numbers], constant) else None


def fold_down(edit: Edit, node: fx.Node, value: fx.Node, constant: fx.Node) -> Refusal | None:
    """Into all the products that read the value with its factor or term; why not, else None."""
    sizes, factors = shape_of(node), edit.tensor(constant)
    wide = [d for d in range(-len(shape_of(constant)), 0) if shape_of(constant)[d] > 1]
    if len(wide) > 1:
        return Refusal(constant, "it varies along several dimensions")
    numbers = numbered(sizes, len(sizes) + wide[0]) if wide else torch.zeros(sizes, dtype=torch.long)
    found = [f for user in node.users for f in readers(node, user, numbers)]
    products = [f for f in found if isinstance(f, Product)]
    if len(products) < len(found) or not products:
        return next((f for f in found if isinstance(f, Refusal)), Refusal(node, "nothing reads it"))
    is_sum = node.target is not aten.mul.Tensor
    padded = [p.node for p in products if p.padded and is_sum]
    if padded:
        return Refusal(padded[0], f"zeros are padded to {node.name}, which has a term")
    for product in products:
        if is_sum:
            shift = (-factors if node.target is aten.sub.Tensor else factors).reshape(-1)
            scale_inputs(edit, product, None, shift, [constant])
        else:
            scale_inputs(edit, product, factors.reshape(-1), None, [constant])
    edit.replace(node, value)
    return None


FOLD_SCALE = Pass(
    name=NAME,
    graph="nn",
    rewrite=rewrite,
    source="LayerScale (arXiv 2103.17239) folded as batch norm is into convolutions",
    summary="Moves constant factors and terms per channel into the linear layers and convolutions beside them.",
    after=("fold_constants", "slice_early"),
)
