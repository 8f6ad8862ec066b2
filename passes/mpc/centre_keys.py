"""Attention scores minus their mean over the keys: the keys are centred instead. Exact up to rounding.

    x = scale(matmul(q, kT)); sub(x, scale(sum(x, -1), 1 / N))  ->  scale(matmul(q, sub(kT, scale(sum(kT, -1), 1 / N))))

since the mean over the keys of q . k is q . (mean of k). A sum is local in secure computation, so rounds and bytes
stay; but the sums run over a key's few values a token instead of all pairs of tokens, and the scores are opened
centred, in fewer bits. An added constant (a position bias, a mask) is centred beside it; scales and views of the
other dimensions may stand between.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from mpcc.ir import mpc
from mpcc.ir.nn import shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.constants import is_constant
from mpcc.rewrite.edit import Edit, Refusal
from mpcc.rewrite.means import mean_taken, minus_mean
from mpcc.rewrite.slices import keeps_rows

aten = torch.ops.aten
NAME = "centre_keys"


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    for node in list(graph_module.graph.nodes):
        x: Any = node.args[0] if node.target is mpc.sub else None
        if not isinstance(x, fx.Node) or mean_taken(x, node) != len(shape_of(x)) - 1:
            continue
        refusal = uncentrable(x)
        if refusal is not None:
            edit.refuse(refusal)
            continue
        edit.replace(node, centred(edit, node, x))
    return edit.finish()


def uncentrable(x: fx.Node) -> Refusal | None:
    """Why the mean of x over its last dimension cannot be taken from keys and constants; None if it can."""
    if x.target is mpc.matmul:
        keys = x.args[1]
        if not isinstance(keys, fx.Node) or len(shape_of(keys)) < 2:
            return Refusal(x, "its right operand is a vector")
        return None
    if x.target is mpc.scale or keeps_rows(x):
        return uncentrable(x.args[0])  # type: ignore[arg-type]
    if x.target is mpc.add and any(is_constant(a) for a in x.args):
        other = next((a for a in x.args if isinstance(a, fx.Node) and not is_constant(a)), None)
        if other is None or shape_of(other) != shape_of(x):
            return Refusal(x, "a sum of constants, or with broadcasting")
        return uncentrable(other)
    return Refusal(x, "not a product of queries and keys")


def centred(edit: Edit, anchor: fx.Node, x: Any) -> fx.Node:
    """x minus its mean over the last dimension, pushed up to the keys."""
    if x.target is mpc.matmul:
        return edit.call(anchor, mpc.matmul, x.args[0], minus_mean(edit, anchor, x.args[1], len(shape_of(x.args[1])) - 1), like=x)
    if x.target is mpc.scale or keeps_rows(x):
        return edit.call(anchor, x.target, centred(edit, anchor, x.args[0]), *x.args[1:], like=x)
    constant, rest = sorted(x.args, key=lambda a: not is_constant(a))
    inner = centred(edit, anchor, rest)
    # A constant with one value for all keys is all mean.
    if shape_of(constant)[-1:] in ((), (1,)):
        return inner
    return edit.call(anchor, mpc.add, inner, minus_mean(edit, anchor, constant, len(shape_of(constant)) - 1), like=x)


CENTRE_KEYS = Pass(
    name=NAME,
    graph="mpc",
    rewrite=rewrite,
    source="mpcc prototype: softmax by mean shift, the keys centred over the tokens",
    summary="Centres the keys instead of the attention scores, so that sums run over small tensors.",
    after=("factors_after_scores",),
)
