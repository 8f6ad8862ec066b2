"""A linear layer on a linear layer after expansion, where an activation was left out: one product W2 W1. Exact.

    linear(scale(linear(x, W1, b1), f), W2, b2)  ->  linear(x, f W2 W1, f W2 b1 + b2)

As `fuse_linear`, for what the plan made linear: whole layers, or with `separate_parts` the tokens whose activation is
the identity. Saves the opening of the hidden values, and their round where all tokens are fused. The product of the
weights is computed in float64 at compile time. Fires only where W2 W1 is no bigger than W1 and W2 together. Between the
layers there may be scales, reshapes, permutations and parts of tokens that keep the channels last.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from mpcc.ir import mpc
from mpcc.ir.nn import shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.edit import Edit, Refusal, bias_name, is_constant
from mpcc.rewrite.match import positional

from ..nn.fuse_linear import sticky

aten = torch.ops.aten
NAME = "fuse_linear_mpc"
VIEWS = (aten.reshape.default, aten.permute.default, aten.slice.Tensor, aten.select.int, mpc.gather)


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    for node in list(graph_module.graph.nodes):
        steps = between(node) if node.target is mpc.linear else None
        if steps is None:
            continue
        first = steps[0].args[0] if steps else node.args[0]
        assert isinstance(first, fx.Node)
        views = [step for step in steps if step.target in VIEWS]
        refusal = unfusable(first, node) or sticky_between(first, steps, views)
        if refusal is not None:
            edit.refuse(refusal)
        else:
            fuse(edit, first, steps, node)
    return edit.finish()


def between(node: fx.Node) -> list[fx.Node] | None:
    """The scales and views between a linear layer and the one that it reads, the highest first; None if it reads none."""
    steps: list[fx.Node] = []
    above = node.args[0]
    while isinstance(above, fx.Node) and (above.target is mpc.scale or above.target in VIEWS):
        steps.insert(0, above)
        above = above.args[0]
    return steps if isinstance(above, fx.Node) and above.target is mpc.linear else None


def unfusable(first: fx.Node, second: fx.Node) -> Refusal | None:
    """Why the two weights cannot be one, or should not."""
    for node in (first, second):
        if not all(is_constant(w) for w in positional(node)[1:] if w is not None):
            return Refusal(node, "its weight or bias is computed")
    (hidden, inputs), outputs = shape_of(_weight(first)), shape_of(_weight(second))[0]
    if inputs * outputs > hidden * (inputs + outputs):
        return Refusal(second, f"one weight of {outputs} x {inputs} is bigger than both through {hidden} channels")
    return None


def sticky_between(first: fx.Node, steps: list[fx.Node], views: list[fx.Node]) -> Refusal | None:
    """A step that others read as well, or a view that mixes channels with tokens."""
    for node in (first, *steps):
        if len(node.users) > 1:
            return Refusal(node, f"{len(node.users)} nodes read it")
    return sticky(views, first) if views else None


def fuse(edit: Edit, first: fx.Node, steps: list[fx.Node], second: fx.Node) -> None:
    """The views on the input of the first layer, then one layer with the product of the weights."""
    value, w1, *rest1 = positional(first)
    _, w2, *rest2 = positional(second)
    b1, b2 = (rest[0] if rest else None for rest in (rest1, rest2))
    factors: list[Any] = [step.args[1] for step in steps if step.target is mpc.scale]
    factor = float(math.prod(factors))
    one, two = edit.tensor(w1).double(), edit.tensor(w2).double() * factor
    for view in (step for step in steps if step.target in VIEWS):
        rest: Any = view.args[1:]
        if view.target is aten.reshape.default:
            rest = ([*shape_of(view)[:-1], one.shape[1]],)
        value = edit.call(second, view.target, value, *rest, like=view, **view.kwargs)  # type: ignore[arg-type]
    name = f"{w2.target}_fused"
    made_of = [given for given in (w1, b1, w2, b2) if given is not None]
    parameters = [edit.parameter(second, two @ one, w2, name, made_of=made_of)]
    if b1 is not None or b2 is not None:
        bias = torch.zeros(len(two), dtype=torch.float64)
        bias = bias + (two @ edit.tensor(b1).double() if b1 is not None else 0.0)
        bias = bias + (edit.tensor(b2).double() if b2 is not None else 0.0)
        name = f"{b2.target}_fused" if b2 else bias_name(w2)
        parameters.append(edit.parameter(second, bias, b2 or w2, name, made_of=made_of))
    fused = edit.call(second, mpc.linear, value, *parameters, like=second)
    edit.replace(second, fused)
    edit.drop(steps[-1] if steps else first)


def _weight(node: fx.Node) -> fx.Node:
    weight = positional(node)[1]
    assert isinstance(weight, fx.Node)
    return weight


FUSE_LINEAR_MPC = Pass(
    name=NAME,
    graph="mpc",
    rewrite=rewrite,
    source="MPCViT+ (arXiv 2211.13955, section 4.3): W2 W1 where GELU became the identity",
    summary="Makes one product of two linear layers whose activation was left out, for a layer or for some tokens.",
    after=("separate_parts",),
)
