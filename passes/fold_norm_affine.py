"""The scale and shift of a norm move into the products that read it. Exact.

    linear(layer_norm(x, w, b), W, c)  ->  linear(layer_norm(x), W * w, c + W b)

also for rms_norm and group_norm, through views, and into convolutions without padding. A secure product by w would
open the normalised value and then open it again for W: one round and 16 bytes a value more than this.

Where something else reads the norm too (the residual of a post-norm block, or of MPCViT, whose blocks add the
normalised value), it gets `layer_norm(x) * w + b` as two nodes of its own: they share the opening of `layer_norm(x)`
with the products. A norm that no product reads stays as it is. Runs after `split_projection` and `slice_early`,
before expansion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.ir.nn import shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.edit import Edit, Refusal, arguments, is_constant

from ._channels import Product, numbered, readers, scale_inputs

aten = torch.ops.aten
NAME = "fold_norm_affine"
# The dimension of the channels.
NORMS: Mapping[Any, int] = {aten.layer_norm.default: -1, aten.rms_norm.default: -1, aten.group_norm.default: 1}


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    for node in list(graph_module.graph.nodes):
        if node.target not in NORMS or not any(affine_of(node)):
            continue
        refusal = foldable(node)
        if refusal is not None:
            edit.refuse(refusal)
            continue
        products, others = sort_readers(edit, node)
        if products:
            fold(edit, node, products, others)
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


def sort_readers(edit: Edit, norm: fx.Node) -> tuple[list[Product], list[fx.Node]]:
    """The products behind those readers of the norm that lead to products only, and its other readers."""
    sizes = shape_of(norm)
    dim = NORMS[norm.target] % len(sizes)
    shifted = affine_of(norm)[1] is not None
    products: list[Product] = []
    others: list[fx.Node] = []
    for user in norm.users:
        found = list(readers(norm, user, numbered(sizes, dim)))
        refusals = [f for f in found if isinstance(f, Refusal)]
        own = [f for f in found if isinstance(f, Product)]
        padded = [p.node for p in own if shifted and p.padded]
        refusals += [Refusal(node, f"zeros are padded to {norm.name}, which has a shift") for node in padded]
        if refusals:
            others.append(user)
            edit.refuse(refusals[0])
        else:
            products += own
    return products, others


def fold(edit: Edit, norm: fx.Node, products: list[Product], others: list[fx.Node]) -> None:
    weight, bias = affine_of(norm)
    scale, shift = (edit.tensor(p) if p is not None else None for p in (weight, bias))
    given: dict[str, Any] = {**arguments(norm), "weight": None}
    if "bias" in given:
        given["bias"] = None
    given.pop("cudnn_enabled", None)
    plain = edit.call(norm, norm.target, *given.values(), like=norm)  # type: ignore[arg-type]
    if others:
        full = _affine(edit, norm, plain, scale, shift)
        for user in others:
            user.replace_input_with(norm, full)
    for product in products:
        scale_inputs(edit, product, scale, shift)
    edit.replace(norm, plain)


def _affine(edit: Edit, norm: fx.Node, value: fx.Node, scale: Tensor | None, shift: Tensor | None) -> fx.Node:
    """value * scale + shift for the readers that are no products."""
    weight, bias = affine_of(norm)
    tail = [-1, *[1] * (len(shape_of(norm)) - 2)] if NORMS[norm.target] == 1 else [-1]
    if weight is not None and scale is not None:
        factor = edit.parameter(norm, scale.reshape(tail), weight)
        value = edit.call(norm, aten.mul.Tensor, value, factor, like=norm)
    if bias is not None and shift is not None:
        term = edit.parameter(norm, shift.reshape(tail), bias)
        value = edit.call(norm, aten.add.Tensor, value, term, like=norm)
    return value


FOLD_NORM_AFFINE = Pass(
    name=NAME,
    graph="nn",
    rewrite=rewrite,
    source="CrypTen prototype of this project: LayerNorm's scale folded into the next linear layer",
    summary="Moves the scale and shift of norms into the linear layers and convolutions that read them.",
)
