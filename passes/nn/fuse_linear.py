"""A linear layer on a linear layer is one linear layer. Exact.

    linear(linear(x, W1, b1), W2, b2)           ->  linear(x, W2 W1, W2 b1 + b2)
    linear(reshape(linear(x, ...)), ...)        ->  linear(reshape(x), ...)       also permutations and slices of tokens

Saves the round and the opening of what lies between. Fires only where W2 W1 is no bigger than W1 and W2 together (a
narrow bottleneck stays), where nothing else reads the first layer, and where the views between keep the channels
last. Makes one layer of an MLP whose activation became the identity.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from mpcc.ir.nn import shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.edit import Edit, Refusal, arguments, bias_name, is_constant, run

aten = torch.ops.aten
NAME = "fuse_linear"
BETWEEN = (aten.reshape.default, aten.permute.default, aten.slice.Tensor, aten.select.int)


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    for node in list(graph_module.graph.nodes):
        if node.target is not aten.linear.default:
            continue
        views = views_to_linear(node)
        if views is None:
            continue
        first = views[0].args[0] if views else node.args[0]
        refusal = unfusable(edit, first, node) or sticky(views, first)  # type: ignore[arg-type]
        if refusal is not None:
            edit.refuse(refusal)
        else:
            fuse(edit, first, views, node)  # type: ignore[arg-type]
    return edit.finish()


def views_to_linear(node: fx.Node) -> list[fx.Node] | None:
    """The views between a linear layer and the one that it reads, the highest first; None if it reads none."""
    views: list[fx.Node] = []
    above = node.args[0]
    while isinstance(above, fx.Node) and above.target in BETWEEN:
        views.insert(0, above)
        above = above.args[0]
    return views if isinstance(above, fx.Node) and above.target is aten.linear.default else None


def unfusable(edit: Edit, first: fx.Node, second: fx.Node) -> Refusal | None:
    """Why the two weights cannot be one, or should not."""
    for node in (first, second):
        given = arguments(node)
        if not is_constant(given["weight"]) or not (given["bias"] is None or is_constant(given["bias"])):
            return Refusal(node, "its weight or bias is computed")
    (hidden, inputs), outputs = shape_of(arguments(first)["weight"]), shape_of(arguments(second)["weight"])[0]
    if inputs * outputs > hidden * (inputs + outputs):
        return Refusal(second, f"one weight of {outputs} x {inputs} is bigger than both through {hidden} channels")
    return None


def sticky(views: list[fx.Node], first: fx.Node) -> Refusal | None:
    """A view between that mixes channels with tokens, or whose operand others read as well."""
    for node in (first, *views):
        if len(node.users) > 1:
            return Refusal(node, f"{len(node.users)} nodes read it")
    channels = shape_of(first)[-1]
    numbers = torch.arange(channels).expand(shape_of(first))
    for view in views:
        numbers = run(view, numbers)
        if shape_of(view)[-1] != channels or not torch.equal(numbers, torch.arange(channels).expand(shape_of(view))):
            return Refusal(view, "it does not keep the channels last and whole")
    return None


def fuse(edit: Edit, first: fx.Node, views: list[fx.Node], second: fx.Node) -> None:
    """The views on the input of the first layer, then one layer under the name of the second."""
    one, two = arguments(first), arguments(second)
    w1, w2 = edit.tensor(one["weight"]).double(), edit.tensor(two["weight"]).double()
    value = one["input"]
    for view in views:
        rest = ([*shape_of(view)[:-1], w1.shape[1]],) if view.target is aten.reshape.default else view.args[1:]
        value = edit.call(second, view.target, value, *rest, like=view, **view.kwargs)  # type: ignore[arg-type]
    made_of = [given for part in (one, two) for given in (part["weight"], part["bias"]) if given is not None]
    parameters = [edit.parameter(second, w2 @ w1, two["weight"], made_of=made_of)]
    if one["bias"] is not None or two["bias"] is not None:
        zero = torch.zeros(w2.shape[0], dtype=torch.float64)
        b1: Tensor = w2 @ edit.tensor(one["bias"]).double() if one["bias"] is not None else zero
        b2: Tensor = edit.tensor(two["bias"]).double() if two["bias"] is not None else zero
        named = (two["bias"],) if two["bias"] is not None else (two["weight"], bias_name(two["weight"]))
        parameters.append(edit.parameter(second, b1 + b2, *named, made_of=made_of))
    edit.replace(second, edit.call(second, aten.linear.default, value, *parameters, like=second))
    edit.drop(views[-1] if views else first)


FUSE_LINEAR = Pass(
    name=NAME,
    graph="nn",
    rewrite=rewrite,
    source="MPCViT+ (arXiv 2211.13955, section 4.3): linear layers fuse where GELU became the identity",
    summary="Makes one linear layer of two that follow one another.",
    after=("fold_scale",),
)
