"""The mask of a softmax stands by itself, right before it. Exact.

    softmax(reshape(add(x, B)))     ->  softmax(add(reshape(add(x, B')), K))

B is constant, with entries of -100, -1e9, -inf ... where a key is not to be seen (shifted windows, causal and padded
attention). B' has 0 there, and is not added at all if nothing else is left of it; K is 0 or MASKED, broadcast. So the
secure form can drop those keys (see mpcc.approximate.masks), and calibration sees the logits that there are. Refuses rows
that see nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from mpcc.approximate.masks import MASKED, mask_at
from mpcc.ir.nn import attribute, shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.constants import evaluate, is_constant, sources_of
from mpcc.rewrite.edit import Edit, Refusal, run

aten = torch.ops.aten
NAME = "split_masks"
VIEWS = (aten.reshape.default, aten.permute.default, aten.expand.default)
LOWEST = -87.0
"""exp of less is no normal float32: whoever adds it means that the key is not seen."""


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    for node in list(graph_module.graph.nodes):
        if node.target is not aten.softmax.int or mask_at(node) is not None:
            continue
        found = masked_sum(edit, node)
        if isinstance(found, Refusal):
            edit.refuse(found)
        elif found is not None:
            split(edit, node, *found)
    return edit.finish()


def masked_sum(edit: Edit, node: fx.Node) -> tuple[fx.Node, list[fx.Node]] | Refusal | None:
    """The sum with a mask that a softmax reads, and the views between, the highest first; None if there is none."""
    views: list[fx.Node] = []
    above = node.args[0]
    while isinstance(above, fx.Node):
        if above.target is aten.add.Tensor and (constant := constant_of(above)) is not None:
            if bool((evaluate(edit, constant) < LOWEST).any()):
                read = next((n for n in (above, *views) if len(n.users) > 1), None)
                return Refusal(read, f"{len(read.users)} nodes read it") if read else (above, views)
            other = logits_of(above)
            above = other if shape_of(other) == shape_of(above) else None
        elif above.target in VIEWS:
            views.insert(0, above)
            above = above.args[0]
        else:
            return None
    return None


def constant_of(add: fx.Node) -> fx.Node | None:
    return next((a for a in add.args[:2] if isinstance(a, fx.Node) and is_constant(a)), None)


def logits_of(add: fx.Node) -> fx.Node:
    return next(a for a in add.args[:2] if isinstance(a, fx.Node) and not is_constant(a))


def split(edit: Edit, node: fx.Node, add: fx.Node, views: list[fx.Node]) -> None:
    constant, logits = constant_of(add), logits_of(add)
    assert constant is not None
    value = evaluate(edit, constant)
    hidden = value < LOWEST
    mask = torch.where(hidden, MASKED, 0.0).expand(shape_of(add))
    for view in views:
        mask = run(view, mask)
    if bool((mask == MASKED).all(int(node.args[1])).any()):  # type: ignore[arg-type]
        edit.refuse(Refusal(node, "there are rows that see no key"))
        return
    source = min(sources_of(constant), key=edit.trains)
    kept = torch.where(hidden, 0.0, value)
    if bool(kept.any()):
        cleaned = edit.parameter(add, kept, source, f"{source.target}_unmasked")
        edit.replace(add, edit.call(add, aten.add.Tensor, logits, cleaned, like=add))
    elif shape_of(logits) == shape_of(add):
        add.replace_all_uses_with(logits)
        edit.graph.erase_node(add)
    else:
        edit.replace(add, edit.call(add, aten.expand.default, logits, list(shape_of(add)), like=add))
    whole = node.args[0]
    assert isinstance(whole, fx.Node)
    added = edit.parameter(node, narrowed(mask), source, f"{source.target}_mask")
    attribute(edit.graph_module, str(added.target)).requires_grad_(False)
    node.update_arg(0, edit.call(node, aten.add.Tensor, whole, added, like=whole))


def narrowed(mask: Tensor) -> Tensor:
    """A mask without the dimensions along which it is always the same: they are broadcast."""
    for dim in range(mask.dim()):
        first = mask.narrow(dim, 0, 1)
        if torch.equal(first.expand_as(mask), mask):
            mask = first
    return mask


SPLIT_MASKS = Pass(
    name=NAME,
    graph="nn",
    rewrite=rewrite,
    source="masked attention as in Swin (arXiv 2103.14030, section 3.2), the mask public",
    summary="Separates which keys a softmax may see from what is added to its logits.",
    after=("fold_norm_affine",),
)
