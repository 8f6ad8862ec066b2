"""Constants that belong to an operator go into it: the bias of a linear layer, the weight and bias of a norm."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from mpcc.ir.nn import shape_of

aten = torch.ops.aten


def absorb_constants(graph: fx.Graph) -> None:
    """linear(x, w) + b -> linear(x, w, b); norm(x) * w + b -> norm(x, w, b), for parameters of the fitting shape."""
    for node in list(graph.nodes):
        for operator, target, place, wanted in _PLACES:
            if node.target is operator and _absorb(node, target, place, wanted):
                graph.erase_node(node)
                break


def _absorb(node: fx.Node, target: Any, place: int, wanted: Any) -> bool:
    """Move the constant operand of `node` to argument `place` of the call of `target` that is its other operand."""
    for call, constant in (node.args, node.args[::-1]):
        if not isinstance(call, fx.Node) or not isinstance(constant, fx.Node) or constant.op != "get_attr":
            continue
        if call.target is not target or len(call.users) != 1 or shape_of(constant) != wanted(call):
            continue
        args = [*call.args, *[None] * (place + 1 - len(call.args))]
        if args[place] is not None or place == 2 and target is aten.layer_norm.default and _at(args, 3) is not None:
            continue
        args[place] = constant
        if constant > call:
            call.prepend(constant)
        call.args = tuple(args)
        node.replace_all_uses_with(call)
        return True
    return False


def _at(args: list[Any], place: int) -> Any:
    return args[place] if len(args) > place else None


def _out_features(call: fx.Node) -> tuple[int, ...]:
    return (shape_of(call)[-1],)


def _normalised(call: fx.Node) -> tuple[int, ...]:
    sizes: Any = call.args[1]
    return tuple(sizes)


# operator, the call that is its one operand, the argument that the other operand becomes, its shape
_PLACES = (
    (aten.add.Tensor, aten.linear.default, 2, _out_features),
    (aten.add.Tensor, aten.layer_norm.default, 3, _normalised),
    (aten.mul.Tensor, aten.layer_norm.default, 2, _normalised),
    (aten.mul.Tensor, aten.rms_norm.default, 2, _normalised),
)
