"""Batch norm folding: convolution or linear, then a constant factor and shift per channel -> one product.

The product keeps the name of its weight (and gets a bias if it had none). Source: the fold of inference compilers,
w' = w * scale, b' = b * scale + shift.
"""

from __future__ import annotations

import torch
from torch import fx

from mpcc.ir.names import register, replace_tensor
from mpcc.ir.nn import MADE_OF, attribute, meta_tensor

from .rules.norms import BATCH_NORM

aten = torch.ops.aten


def fold_batch_norms(root: torch.nn.Module, graph: fx.Graph) -> None:
    """Fold every batch norm whose input is a product that nothing else reads. Dead nodes are left for the caller."""
    for shift in list(graph.nodes):
        scale = shift.args[0] if shift.meta.get(BATCH_NORM) and shift.target is aten.add.Tensor else None
        if isinstance(scale, fx.Node) and scale.meta.get(BATCH_NORM) and len(scale.users) == 1:
            _fold(root, graph, scale, shift)


def _fold(root: torch.nn.Module, graph: fx.Graph, scale: fx.Node, shift: fx.Node) -> None:
    product = scale.args[0]
    if not isinstance(product, fx.Node) or len(product.users) != 1 or not _foldable(product, scale):
        return
    weight, bias = product.args[1], product.args[2] if len(product.args) > 2 else None
    assert isinstance(weight, fx.Node)
    factor, offset = (_constant(root, node.args[1]).flatten() for node in (scale, shift))
    out_axis = 1 if product.target is aten.convolution.default and product.args[6] else 0
    old = _constant(root, weight)
    along = [-1 if i == out_axis else 1 for i in range(old.dim())]
    name = str(weight.target)
    shifted = offset if bias is None else _constant(root, bias) * factor + offset
    replace_tensor(root, name, _single(old * factor.reshape(along)))
    if isinstance(bias, fx.Node):
        replace_tensor(root, str(bias.target), _single(shifted))
    else:
        path = name.rpartition(".")[0]
        made = register(root, f"{path}.bias" if path else "bias", _single(shifted), trainable=True)
        with graph.inserting_before(product):
            bias = graph.create_node("get_attr", made)
        bias.meta.update(val=meta_tensor(_single(shifted)), layer=product.meta["layer"], made_by=())
        bias.meta[MADE_OF] = frozenset()
    made_of = [node.meta.get(MADE_OF) for node in (weight, bias, scale.args[1], shift.args[1]) if isinstance(node, fx.Node)]
    together: frozenset[str] | None = frozenset()
    for names in made_of:
        together = None if together is None or names is None else together | names
    weight.meta[MADE_OF] = bias.meta[MADE_OF] = together
    product.args = (product.args[0], weight, bias, *product.args[3:])
    shift.replace_all_uses_with(product)


def _foldable(product: fx.Node, scale: fx.Node) -> bool:
    if product.target not in (aten.convolution.default, aten.linear.default):
        return False
    if product.target is aten.convolution.default and product.args[6] and product.args[8] != 1:
        return False  # grouped transposed weights mix channels and groups
    own = [node for node in product.args[1:3] if isinstance(node, fx.Node)]
    if any(node.op != "get_attr" or len(node.users) != 1 for node in own):
        return False
    channel = 1 if product.target is aten.convolution.default else len(scale.meta["val"].shape) - 1
    along = scale.args[1]
    assert isinstance(along, fx.Node)
    sizes = along.meta["val"].shape
    return len(sizes) == len(scale.meta["val"].shape) - channel and all(size == 1 for size in sizes[1:])


def _constant(root: torch.nn.Module, node: object) -> torch.Tensor:
    assert isinstance(node, fx.Node)
    value = attribute(root, str(node.target))
    assert isinstance(value, torch.Tensor)
    return value.detach().double()


def _single(value: torch.Tensor) -> torch.Tensor:
    return value.float().contiguous()
