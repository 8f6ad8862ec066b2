"""Products by constant weights and their channels: what a factor per channel does to the products before and after it.

Channels are followed through views by running the views on channel numbers, so any chain of reshapes, permutations,
slices and rolls is understood, and what is not the same channel at every position is seen. `Product` is linear,
matmul by a parameter, or convolution; its weights are constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mpcc.ir.nn import shape_of

from .edit import Edit, Refusal, arguments, bias_name, is_constant, run

aten = torch.ops.aten

VIEWS = frozenset(
    {
        aten.reshape.default,
        aten.permute.default,
        aten.expand.default,
        aten.slice.Tensor,
        aten.select.int,
        aten.roll.default,
        aten.flip.default,
        aten.constant_pad_nd.default,
    }
)
PADDED = -1
"""The channel number of a padded zero."""


@dataclass(frozen=True)
class Product:
    """A product by a constant weight that reads a value: its input channel i is channel `channels[i]` of the value.

    `padded`: it also reads zeros that a view or its own padding put beside the value.
    """

    node: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    channels: Tensor
    padded: bool


def numbered(sizes: tuple[int, ...], dim: int) -> Tensor:
    """The channel number at every position of a value of that shape with channels in dimension `dim`."""
    numbers = torch.arange(sizes[dim])
    return numbers.reshape([-1 if d == dim else 1 for d in range(len(sizes))]).expand(sizes)


def readers(value: fx.Node, user: fx.Node, numbers: Tensor) -> Iterator[Product | Refusal]:
    """Everything that reads `value` by way of its reader `user`: products, or a Refusal where something else does."""
    if not user.users or user.target not in (*VIEWS, aten.mean.dim):
        yield product(user, value, numbers)
        return
    seen = through(user, numbers)
    if isinstance(seen, Refusal):
        yield seen
        return
    for reader in user.users:
        yield from readers(user, reader, seen)


def through(node: fx.Node, numbers: Tensor) -> Tensor | Refusal:
    """The channel numbers behind a view, or behind a mean of values of one channel each."""
    if node.target is aten.constant_pad_nd.default:
        padded: Tensor = aten.constant_pad_nd.default(numbers, arguments(node)["pad"], PADDED)
        return padded
    if node.target is not aten.mean.dim:
        return run(node, numbers)
    given = arguments(node)
    dims, keepdim = given["dim"] or list(range(numbers.dim())), given["keepdim"]
    least, most = numbers.amin(dims, keepdim), numbers.amax(dims, keepdim)
    return most if torch.equal(least, most) else Refusal(node, "a mean over several channels, or over padded zeros")


def product(node: fx.Node, value: fx.Node, numbers: Tensor) -> Product | Refusal:
    """`node` as a product that reads `value`, whose channel numbers are given, in its first operand only."""
    weight = weight_of(node)
    if isinstance(weight, Refusal):
        return weight
    if node.args[0] is not value:
        return Refusal(node, f"{value.name} is not its input")
    rows = numbers.movedim(1 if node.target is aten.convolution.default else -1, -1)
    channels = rows.reshape(-1, rows.shape[-1])
    first = channels.amax(0)  # PADDED is less than every channel
    if not bool(((channels == first) | (channels == PADDED)).all()):
        return Refusal(node, "its input channels are not the same channel at every position")
    given = arguments(node)
    padded = any(given.get("padding", ())) or bool((channels == PADDED).any())
    return Product(node, weight, given.get("bias"), first, padded)


def weight_of(node: fx.Node) -> fx.Node | Refusal:
    """The weight of a product by constants; a Refusal if `node` is none."""
    if node.target is aten.matmul.default:
        weight = node.args[1]
        if is_constant(weight) and len(shape_of(weight)) == 2:  # type: ignore[arg-type]
            return weight  # type: ignore[return-value]
        return Refusal(node, "a product of two values")
    if node.target not in (aten.linear.default, aten.convolution.default):
        return Refusal(node, "reads it outside a product")
    given = arguments(node)
    if not is_constant(given["weight"]) or not (given["bias"] is None or is_constant(given["bias"])):
        return Refusal(node, "its weight or bias is computed")
    if given.get("transposed"):
        return Refusal(node, "a transposed convolution")
    weight = given["weight"]
    assert isinstance(weight, fx.Node)
    return weight


def scale_inputs(
    edit: Edit, into: Product, scale: Tensor | None, shift: Tensor | None, made_of: Iterable[fx.Node]
) -> None:
    """Replace product(scale * x + shift) by product'(x), both [channels of the value], made of `made_of`; no shift if padded."""
    node, weight = into.node, edit.tensor(into.weight).double()
    given = arguments(node)
    w = weight.T if node.target is aten.matmul.default else weight  # [out, in, ...]
    groups = given.get("groups", 1)
    tail = [1] * (w.dim() - 2)
    grouped = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])  # [group, out / groups, in / groups, ...]
    total = _at(shift, into.channels, 0.0).reshape(groups, 1, -1, *tail)
    moved = (grouped * total).sum(dim=tuple(range(2, grouped.dim()))).reshape(-1)
    grouped = grouped * _at(scale, into.channels, 1.0).reshape(groups, 1, -1, *tail)
    rewrite_product(edit, into, grouped.reshape(w.shape), moved if shift is not None else None, made_of)


def _at(values: Tensor | None, channels: Tensor, missing: float) -> Tensor:
    """`values` at the channels, `missing` without values; any of them for a channel that is padded everywhere."""
    if values is None:
        return torch.full(channels.shape, missing, dtype=torch.float64)
    return values.double()[channels.clamp(min=0)]


def rewrite_product(
    edit: Edit, into: Product, weight: Tensor, more: Tensor | None, made_of: Iterable[fx.Node]
) -> fx.Node:
    """Replace a product by the one with `weight` [out, in, ...] and with `more` [out] added to its bias: both are made of what
    the product reads, and of `made_of`."""
    node, given = into.node, arguments(into.node)
    is_matmul = node.target is aten.matmul.default
    keep_matmul = is_matmul and more is None
    sources = [*made_of, into.weight, *([] if into.bias is None else [into.bias])]
    new_weight = edit.parameter(node, weight.T if keep_matmul else weight, into.weight, made_of=sources)
    bias = into.bias
    if more is not None:
        old = edit.tensor(bias).double() if bias is not None else torch.zeros(())
        named = (bias,) if bias is not None else (into.weight, bias_name(into.weight))
        bias = edit.parameter(node, old + more, *named, made_of=sources)
    if keep_matmul:
        new = edit.call(node, aten.matmul.default, node.args[0], new_weight, like=node)
    elif is_matmul or node.target is aten.linear.default:
        new = edit.call(node, aten.linear.default, node.args[0], new_weight, *([bias] if bias else []), like=node)
    else:
        rest: list[Any] = list(given.values())[3:]
        new = edit.call(node, aten.convolution.default, node.args[0], new_weight, bias, *rest, like=node)
    edit.replace(node, new)
    return new
