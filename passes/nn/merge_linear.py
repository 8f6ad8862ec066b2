"""A sum of linear layers of one value is one linear layer; an adapter of low rank beside a layer is part of it. Exact.

    add(linear(x, W, b), linear(x, V, c))                        ->  linear(x, W + V, b + c)
    add(linear(x, W, b), f * linear(linear(x, A, a), B, c))      ->  linear(x, W + f B A, b + f (B a + c))       LoRA

for public numbers f. The products A and B, one after the other, are a round and an opening more than W alone, and what follows a
sum is seen by fewer passes than what follows a layer (`factors_after_scores`). The product B A is computed in float64 at compile
time. The sum is secret if any of its parts is: an adapter's layer is, though its frozen base was public.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from mpcc.ir.nn import shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.edit import Edit, Refusal, arguments, bias_name, is_constant

aten = torch.ops.aten
NAME = "merge_linear"
NUMBERS = (aten.mul.Tensor, aten.div.Tensor)


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    for node in list(graph_module.graph.nodes):
        if node.target is not aten.add.Tensor:
            continue
        found = [summand(one, node) if isinstance(one, fx.Node) else None for one in node.args]
        layers = [one for one in found if isinstance(one, Summand)]
        if len(layers) < 2:
            for refusal in found:
                if isinstance(refusal, Refusal):
                    edit.refuse(refusal)
            continue
        left, right = layers
        if left.value is not right.value:
            edit.refuse(Refusal(node, "its summands are layers of different values"))
        elif len(left.layers) + len(right.layers) > 3:
            edit.refuse(Refusal(node, "both summands are of low rank: their sum may be wider than they are"))
        else:
            merge(edit, node, *sorted(layers, key=lambda one: len(one.layers)))
    return edit.finish()


class Summand:
    """factor * layer(... (value)), the last layer first."""

    def __init__(self, value: fx.Node, factor: float, layers: list[fx.Node]) -> None:
        self.value, self.factor, self.layers = value, factor, layers

    @property
    def parameters(self) -> list[fx.Node]:
        given = [arguments(layer)[key] for layer in self.layers for key in ("weight", "bias")]
        return [one for one in given if one is not None]

    def weight(self, edit: Edit) -> Tensor:
        """[out, in]"""
        total = edit.tensor(arguments(self.layers[0])["weight"]).double()
        for layer in self.layers[1:]:
            total = total @ edit.tensor(arguments(layer)["weight"]).double()
        return total * self.factor

    def bias(self, edit: Edit) -> Tensor:
        """[out]"""
        total = torch.zeros(shape_of(self.value)[-1], dtype=torch.float64)
        for layer in reversed(self.layers):
            given = arguments(layer)
            total = edit.tensor(given["weight"]).double() @ total
            if given["bias"] is not None:
                total = total + edit.tensor(given["bias"]).double()
        return total * self.factor


def summand(node: fx.Node, reader: fx.Node) -> Summand | Refusal | None:
    """What a summand is made of: None where no layer makes it, a refusal where it cannot be merged."""
    factor, layers = 1.0, list[fx.Node]()
    while True:
        number = node.target in NUMBERS and isinstance(node.args[1], int | float)
        if node.target is not aten.linear.default and not number:
            break
        if layers and number:  # between the layers: a scale, or another reader's business
            break
        if set(node.users) != {reader}:
            if layers:  # what others read is the value
                break
            return Refusal(node, f"{len(node.users)} nodes read it") if node.target is aten.linear.default else None
        if number:
            value: float = node.args[1]  # type: ignore[assignment]
            factor *= value if node.target is aten.mul.Tensor else 1 / value
        else:
            given = arguments(node)
            if not is_constant(given["weight"]) or not (given["bias"] is None or is_constant(given["bias"])):
                return Refusal(node, "its weight or bias is computed")
            layers.append(node)
        reader, node = node, node.args[0]  # type: ignore[assignment]
    return Summand(node, factor, layers) if layers else None


def merge(edit: Edit, node: fx.Node, into: Summand, more: Summand) -> None:
    """One layer in the place of the sum, under the name of that which is no adapter."""
    weight, bias = (arguments(into.layers[0])[key] for key in ("weight", "bias"))
    made_of = into.parameters + more.parameters
    parameters = [edit.parameter(node, into.weight(edit) + more.weight(edit), weight, made_of=made_of)]
    if any(arguments(layer)["bias"] is not None for layer in (*into.layers, *more.layers)):
        named = (weight, bias_name(weight)) if bias is None else (bias,)
        parameters.append(edit.parameter(node, into.bias(edit) + more.bias(edit), *named, made_of=made_of))
    edit.replace(node, edit.call(node, aten.linear.default, into.value, *parameters, like=into.layers[0]))


MERGE_LINEAR = Pass(
    name=NAME,
    graph="nn",
    rewrite=rewrite,
    source="LoRA (arXiv 2106.09685, section 4.1): W + B A costs no more than W",
    summary="Makes one linear layer of a sum of layers of one value, such as a layer and its adapter of low rank.",
    after=("fuse_linear", "split_projection"),
)
