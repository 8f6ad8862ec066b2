"""Compute only the tokens that are read: a slice moves up through every operator that it commutes with. Exact.

    norm(x)[:, 0]               -> norm(x[:, 0:1]) reshaped
    (softmax(q k^T) v)[:, :, 0] -> softmax(q[:, :, 0:1] k^T) v        the keys and values stay whole

After the last attention only the class token is left, in its softmax only the class token's row. A node is cut only
when *all* its readers are slices of one dimension; then it computes the part that spans them. Without `split_projection`,
query, key and value are one product and nothing of it can be left out.

Source: CrypTen prototype of this project (docs, "only the class token after the last attention"); PoWER-BERT (arXiv
2001.08950) drops tokens by a learned score, here nothing is dropped that is read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from mpcc.ir.nn import shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.edit import Edit, Refusal
from mpcc.rewrite.slices import Cut, Part, Pulled, cut_of, pull

aten = torch.ops.aten
NAME = "slice_early"
Slices = dict[Part, fx.Node]


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    """One sweep from the output to the inputs, since a slice that moved up is met again at its operand."""
    edit, made = Edit(graph_module, NAME), Slices({})
    for node in reversed(list(graph_module.graph.nodes)):
        span = spanned(node)
        if span is None:
            continue
        if isinstance(span, Refusal):
            edit.refuse(span)
            continue
        pulled = worth_pulling(node, span)
        if isinstance(pulled, Refusal):
            edit.refuse(pulled)
        else:
            cut_node(edit, made, node, span, pulled)
    return edit.finish()


def spanned(node: fx.Node) -> Cut | Refusal | None:
    """The part of `node` that its readers need; None if no reader is a slice, a Refusal if they need all of it."""
    cuts = {user: cut_of(user) for user in node.users}
    found = [cut for cut in cuts.values() if cut is not None]
    if not found or node.op != "call_function":
        return None
    for user, cut in cuts.items():
        if cut is None:
            return Refusal(node, f"{user.name} reads all of it")
    if len({cut.dim for cut in found}) > 1:
        return Refusal(node, "sliced in several dimensions")
    span = Cut(found[0].dim, min(c.start for c in found), max(c.stop for c in found))
    if span.size == shape_of(node)[span.dim]:
        return Refusal(node, f"its slices {', '.join(u.name for u in cuts)} together need all of it")
    return span


def worth_pulling(node: fx.Node, span: Cut) -> Pulled | Refusal:
    """How the operands of `node` are cut; a slice passes a slice of another dimension only to go on from there."""
    pulled = pull(node, span)
    if isinstance(pulled, Refusal) or pulled.target is None or cut_of(node) is None:
        return pulled
    (part, *_) = pulled.args
    if part.node.op != "call_function" or len(part.node.users) > 1:
        return Refusal(node, "above this slice there is no way on")
    above = worth_pulling(part.node, part.cut)
    return above if isinstance(above, Refusal) else pulled


def cut_node(edit: Edit, made: Slices, node: fx.Node, span: Cut, pulled: Pulled) -> None:
    """Replace `node` by the operator on cut operands, and its slices by what is left of them."""
    args = _operands(edit, made, pulled.args)
    if pulled.target is None:
        new = args[0]
    else:
        new = edit.call(node, pulled.target, *args, like=node, **pulled.kwargs)
    for user in list(node.users):
        edit.replace(user, _rest(edit, user, new, span))
    edit.graph.erase_node(node)


def _rest(edit: Edit, user: fx.Node, new: fx.Node, span: Cut) -> fx.Node:
    """What the slice `user` of the old node is on the new one, which is the part `span` of it."""
    cut = cut_of(user)
    assert cut is not None
    inner = Cut(cut.dim, cut.start - span.start, cut.stop - span.start)
    if inner.size != span.size:
        new = edit.call(user, aten.slice.Tensor, new, inner.dim, inner.start, inner.stop, like=user)
    if user.target is aten.select.int:
        new = edit.call(user, aten.reshape.default, new, list(shape_of(user)), like=user)
    return new


def _operands(edit: Edit, made: Slices, args: Any) -> Any:
    """Every Part as a slice of its node, made once."""
    if isinstance(args, (list, tuple)):
        return type(args)(_operands(edit, made, a) for a in args)
    if not isinstance(args, Part):
        return args
    if args not in made:
        node, cut = args.node, args.cut
        made[args] = edit.call_after(node, aten.slice.Tensor, node, cut.dim, cut.start, cut.stop, like=node)
    return made[args]


SLICE_EARLY = Pass(
    name=NAME,
    graph="nn",
    rewrite=rewrite,
    source="mpcc prototype: only the class token after the last attention (exact)",
    summary="Moves slices of tokens up, so that after the last attention only the class token is computed.",
    after=("split_projection",),
)
