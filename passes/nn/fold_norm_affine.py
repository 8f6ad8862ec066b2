"""The scale and shift of a norm move into the products that read it. Exact.

    linear(layer_norm(x, w, b), W, c)  ->  linear(layer_norm(x), W * w, c + W b)

also for rms_norm and group_norm, through views, means over tokens, and into convolutions (one that pads zeros gets x
+ b / w, and its weight the scale). A secure product by w would open the normalised value and then open it again for
W: one round and 16 bytes a value more than this.

Where something else reads the norm too (the residual of a post-norm block, or of MPCViT, whose blocks add the
normalised value), it gets `layer_norm(x) * w + b` as two nodes of its own: they share the opening of `layer_norm(x)`
with the products. A norm that no product reads stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.ir.nn import shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.channels import Product, numbered, readers, scale_inputs
from mpcc.rewrite.edit import Edit, Refusal, arguments, is_constant

aten = torch.ops.aten
NAME = "fold_norm_affine"
# The dimension of the channels.
NORMS: Mapping[Any, int] = {aten.layer_norm.default: -1, aten.rms_norm.default: -1, aten.group_norm.default: 1}


# How much bigger than the normalised value the term shift / scale may make it.
WIDEST_TERM = 16.0


@dataclass(frozen=True)
class Readers:
    """The direct readers of a norm by what is behind them: products only, products with padded zeros, anything else."""

    products: list[Product]
    padded: list[tuple[fx.Node, list[Product]]]
    others: list[fx.Node]


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    for node in list(graph_module.graph.nodes):
        if node.target not in NORMS or not any(affine_of(node)):
            continue
        refusal = foldable(node)
        if refusal is not None:
            edit.refuse(refusal)
            continue
        found = sort_readers(edit, node)
        if found.products or found.padded:
            fold(edit, node, found)
    return edit.finish()


def affine_of(norm: fx.Node) -> tuple[fx.Node | None, fx.Node | None]:
    """Its scale and its shift, if it has them."""
    given = arguments(norm)
    return given["weight"], given.get("bias")


def foldable(norm: fx.Node) -> Refusal | None:
    for node in affine_of(norm):
        if node is not None and not is_constant(node):
            return Refusal(norm, f"its parameter {node.name} is computed")
    if len(arguments(norm).get("normalized_shape", [0])) != 1:
        return Refusal(norm, "it normalises over several dimensions")
    return None


def sort_readers(edit: Edit, norm: fx.Node) -> Readers:
    sizes = shape_of(norm)
    numbers = numbered(sizes, NORMS[norm.target] % len(sizes))
    term = shift_over_scale(edit, norm)
    sorted_readers = Readers([], [], [])
    for user in norm.users:
        found = list(readers(norm, user, numbers))
        products = [f for f in found if isinstance(f, Product)]
        refusal = next((f for f in found if isinstance(f, Refusal)), None)
        padded = next((p.node for p in products if p.padded), None) if affine_of(norm)[1] is not None else None
        if refusal is None and padded is not None and (term is None or bool(term.abs().max() > WIDEST_TERM)):
            refusal = Refusal(padded, f"zeros are padded to {norm.name}, whose shift is large beside its scale")
        if refusal is not None:
            sorted_readers.others.append(user)
            edit.refuse(refusal)
        elif padded is not None:
            sorted_readers.padded.append((user, products))
        else:
            sorted_readers.products.extend(products)
    return sorted_readers


def shift_over_scale(edit: Edit, norm: fx.Node) -> Tensor | None:
    """b / w in x * w + b = (x + b / w) * w; None without either."""
    weight, bias = affine_of(norm)
    return edit.tensor(bias).double() / edit.tensor(weight).double() if weight and bias else None


def fold(edit: Edit, norm: fx.Node, found: Readers) -> None:
    weight, bias = affine_of(norm)
    affine = [one for one in (weight, bias) if one is not None]
    scale, shift = (edit.tensor(p) if p is not None else None for p in (weight, bias))
    term = shift_over_scale(edit, norm)
    given = {name: None if name in ("weight", "bias") else value for name, value in arguments(norm).items()}
    given = {name: value for name, value in given.items() if not name.startswith("cudnn")}
    plain = edit.call(norm, norm.target, *given.values(), like=norm)  # type: ignore[arg-type]
    if found.others:
        full = _affine(edit, norm, plain, scale, shift)
        for user in found.others:
            user.replace_input_with(norm, full)
    if found.padded and term is not None:
        moved = _affine(edit, norm, plain, None, term)
        for user, products in found.padded:
            user.replace_input_with(norm, moved)
            for product in products:
                scale_inputs(edit, product, scale, None, affine)
    for product in found.products:
        scale_inputs(edit, product, scale, shift, affine)
    edit.replace(norm, plain)


def _affine(edit: Edit, norm: fx.Node, value: fx.Node, scale: Tensor | None, shift: Tensor | None) -> fx.Node:
    """value * scale + shift for the readers that are no products."""
    weight, bias = affine_of(norm)
    made_of = [one for one in (weight, bias) if one is not None]
    tail = [-1, *[1] * (len(shape_of(norm)) - 2)] if NORMS[norm.target] == 1 else [-1]
    if weight is not None and scale is not None:
        factor = edit.parameter(norm, scale.reshape(tail), weight, made_of=made_of)
        value = edit.call(norm, aten.mul.Tensor, value, factor, like=norm)
    if bias is not None and shift is not None:
        term = edit.parameter(norm, shift.reshape(tail), bias, made_of=made_of)
        value = edit.call(norm, aten.add.Tensor, value, term, like=norm)
    return value


FOLD_NORM_AFFINE = Pass(
    name=NAME,
    graph="nn",
    rewrite=rewrite,
    source="CrypTen prototype of this project: LayerNorm's scale folded into the next linear layer",
    summary="Moves the scale and shift of norms into the linear layers and convolutions that read them.",
    after=("fuse_linear",),
)
