"""What the output of a product should be, so that what it is added to comes out as it did in the model as it was.

    y = stream + views(linear(f))        target of the linear: views^-1 (y as it was - stream as it is now)
    q = linear(f)                        no sum follows: the linear's own output, as it was

`f` and `stream` are those of the changed model, so each product also makes up for what came before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.ir.nn import attribute, shape_of

aten = torch.ops.aten
Undo = Callable[[Tensor, Mapping[fx.Node, Tensor]], Tensor]
"""The operand of a step from its result and the values of other nodes. Tensors have a leading dimension for the calls."""

SMALLEST_SCALE = 1e-3
"""Of a scale relative to its largest: what is divided by less would count for more than it does in the sum."""


@dataclass(frozen=True)
class Target:
    """`end`: the node whose value is to be as it was. `others`: what is added on the way there. `undo`: from `end` backwards."""

    end: fx.Node
    others: tuple[fx.Node, ...] = ()
    undo: tuple[Undo, ...] = ()

    def of(self, value: Tensor, others: Mapping[fx.Node, Tensor]) -> Tensor:
        """The target [calls, *shape of the product], from `end` as it was and `others` as they are now."""
        for step in self.undo:
            value = step(value, others)
        return value


def target_of(product: fx.Node, order: Mapping[fx.Node, int]) -> Target:
    """The target of a product. `order`: the place of every node; what is added must be known before the product is."""
    end, found = product, Target(product)
    others: tuple[fx.Node, ...] = ()
    steps: tuple[Undo, ...] = ()
    while len(end.users) == 1:
        user = next(iter(end.users))
        made = _step(end, user)
        if made is None:
            break
        other, undo = made
        if other is not None and other.op != "get_attr" and order[other] > order[product]:
            break
        end, steps = user, (undo, *steps)
        if other is not None:
            others = (*others, other)
        if other is not None and user.target is not aten.mul.Tensor:  # a sum
            found = Target(end, others, steps)
    return found


def _step(value: fx.Node, user: fx.Node) -> tuple[fx.Node | None, Undo] | None:
    """(the other operand of a sum, how `value` follows from `user`); None where it does not."""
    arguments: Any = user.args
    if user.target in (aten.add.Tensor, aten.sub.Tensor) and len(user.all_input_nodes) == 2:
        return _sum_step(value, user)
    if user.target is aten.mul.Tensor and len(user.all_input_nodes) == 2:
        return _scale_step(value, user)
    if not arguments or arguments[0] is not value or user.all_input_nodes != [value]:
        return None
    if user.target is aten.reshape.default:
        shape = shape_of(value)
        return None, lambda v, _: v.reshape(len(v), *shape)
    if user.target is aten.permute.default:
        places = [dim % len(arguments[1]) for dim in arguments[1]]
        back = [0, *(places.index(dim) + 1 for dim in range(len(places)))]
        return None, lambda v, _: v.permute(back)
    if user.target is aten.roll.default:
        dims = [dim % len(shape_of(value)) + 1 for dim in (arguments[2] if len(arguments) > 2 else ())]
        shifts = [-shift for shift in arguments[1]]
        return (None, lambda v, _: v.roll(shifts, dims)) if dims else None
    if user.target is aten.flip.default:
        flipped = [dim % len(shape_of(value)) + 1 for dim in arguments[1]]
        return None, lambda v, _: v.flip(flipped)
    if user.target is aten.add.Tensor and isinstance(arguments[1], (int, float)):
        shift = float(arguments[1])
        return None, lambda v, _: v - shift
    if user.target in (aten.mul.Tensor, aten.div.Tensor) and isinstance(arguments[1], (int, float)) and arguments[1]:
        factor = float(arguments[1]) if user.target is aten.mul.Tensor else 1 / float(arguments[1])
        return None, lambda v, _: v / factor
    return None


def _sum_step(value: fx.Node, user: fx.Node) -> tuple[fx.Node | None, Undo] | None:
    first, second = user.args[:2]
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node) or first is second or user.kwargs:
        return None
    other = second if first is value else first
    if shape_of(user) != shape_of(value):  # it is broadcast
        return None
    if user.target is aten.add.Tensor:
        return other, lambda v, others: v - others[other]
    if first is value:
        return other, lambda v, others: v + others[other]
    return other, lambda v, others: others[other] - v


def _scale_step(value: fx.Node, user: fx.Node) -> tuple[fx.Node | None, Undo] | None:
    """Times a constant that is nowhere (nearly) zero, as LayerScale's."""
    first, second = user.args[:2]
    other = second if first is value else first
    module = user.graph.owning_module
    if not isinstance(other, fx.Node) or other.op != "get_attr" or module is None or shape_of(user) != shape_of(value):
        return None
    sizes = attribute(module, str(other.target)).detach().abs()
    if not float(sizes.min()) > SMALLEST_SCALE * float(sizes.max()):
        return None
    return other, lambda v, others: v / others[other]
