"""Slices and how they commute with operators: slice(f(x)) -> f'(slice(x)).

`cut_of` reads a slice or select as a Cut (dimension, start, stop); `pull` says how the operands of an operator must
be cut so that it computes only the cut of its result. Nothing is edited here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from mpcc.ir import mpc
from mpcc.ir.nn import SITES, shape_of

from .edit import Refusal, arguments

aten = torch.ops.aten


@dataclass(frozen=True)
class Cut:
    """The part start:stop of dimension `dim` (not negative)."""

    dim: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Part:
    """An operand of a rewritten call: `node`, cut."""

    node: fx.Node
    cut: Cut


@dataclass(frozen=True)
class Pulled:
    """A call whose result is the cut one; `args` hold a Part for what is to be cut; without target, that Part."""

    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def cut_of(node: fx.Node) -> Cut | None:
    """The cut that a select or a slice of step 1 makes; None for other nodes and for slices that take everything."""
    if node.target is aten.select.int:
        given = arguments(node)
        sizes = shape_of(given["self"])
        dim = given["dim"] % len(sizes)
        start = given["index"] % sizes[dim]
        return Cut(dim, start, start + 1)
    if node.target is aten.slice.Tensor:
        given = arguments(node)
        sizes = shape_of(given["self"])
        dim = given["dim"] % len(sizes)
        start, stop, step = slice(given["start"], given["end"], given["step"]).indices(sizes[dim])
        if step == 1 and 0 < stop - start < sizes[dim]:
            return Cut(dim, start, stop)
    return None


def pull(node: fx.Node, cut: Cut) -> Pulled | Refusal:
    """How to compute the cut of what `node` computes from cuts of its operands."""
    rule = RULES.get(node.target) if node.op == "call_function" else None
    if rule is None:
        return Refusal(node, "a slice does not commute with it")
    return rule(node, cut)


Rule = Callable[[fx.Node, Cut], Pulled | Refusal]


def _broadcast(rank: int, operand: Any, cut: Cut) -> Any:
    """The operand of an operator with broadcasting whose result, of rank `rank`, is cut."""
    if not isinstance(operand, fx.Node):
        return operand
    sizes = shape_of(operand)
    dim = cut.dim - (rank - len(sizes))
    return operand if dim < 0 or sizes[dim] == 1 else Part(operand, Cut(dim, cut.start, cut.stop))


def _elementwise(node: fx.Node, cut: Cut) -> Pulled | Refusal:
    rank = len(shape_of(node))
    return Pulled(node.target, tuple(_broadcast(rank, a, cut) for a in node.args), dict(node.kwargs))


def _first(node: fx.Node, part: Cut, *rest: Any) -> Pulled:
    """The same call with its first operand cut, and its other arguments replaced if given."""
    operand = node.args[0]
    assert isinstance(operand, fx.Node)
    return Pulled(node.target, (Part(operand, part), *(rest or node.args[1:])), dict(node.kwargs))


def _softmax(node: fx.Node, cut: Cut) -> Pulled | Refusal:
    if arguments(node)["dim"] % len(shape_of(node)) == cut.dim:
        return Refusal(node, "it sums over the sliced dimension")
    return _first(node, cut)


def _norm(node: fx.Node, cut: Cut) -> Pulled | Refusal:
    if cut.dim >= len(shape_of(node)) - len(arguments(node)["normalized_shape"]):
        return Refusal(node, "it normalises over the sliced dimension")
    return _first(node, cut)


def _linear(node: fx.Node, cut: Cut) -> Pulled | Refusal:
    if cut.dim == len(shape_of(node)) - 1:
        return Refusal(node, "its channels are sliced")
    return _first(node, cut)


def _matmul(node: fx.Node, cut: Cut) -> Pulled | Refusal:
    x, y = node.args
    assert isinstance(x, fx.Node) and isinstance(y, fx.Node)
    rank = len(shape_of(node))
    if min(len(shape_of(x)), len(shape_of(y))) < 2:
        return Refusal(node, "an operand is a vector")
    if cut.dim == rank - 2:
        return Pulled(node.target, (Part(x, Cut(len(shape_of(x)) - 2, cut.start, cut.stop)), y), {})
    if cut.dim == rank - 1:
        return Pulled(node.target, (x, Part(y, Cut(len(shape_of(y)) - 1, cut.start, cut.stop))), {})
    return Pulled(node.target, (_broadcast(rank, x, cut), _broadcast(rank, y, cut)), {})


def _reduction(node: fx.Node, cut: Cut) -> Pulled | Refusal:
    given = arguments(node)
    rank = len(shape_of(given["self"]))
    reduced = {d % rank for d in given["dim"] or range(rank)}
    kept = [d for d in range(rank) if given["keepdim"] or d not in reduced]
    dim = kept[cut.dim]
    if dim in reduced:
        return Refusal(node, "it sums over the sliced dimension")
    return _first(node, Cut(dim, cut.start, cut.stop))


def _reshape(node: fx.Node, cut: Cut) -> Pulled | Refusal:
    """Where both shapes have a boundary in front of the cut dimension and the cut is whole rows of the operand's."""
    before, after = shape_of(node.args[0]), shape_of(node)  # type: ignore[arg-type]
    dim = _behind(before, math.prod(after[: cut.dim]))
    if dim is None:
        return Refusal(node, f"the sliced dimension {cut.dim} of {after} starts at no dimension of {before}")
    stride, own = math.prod(after[cut.dim + 1 :]), math.prod(before[dim + 1 :])
    if cut.start * stride % own or cut.stop * stride % own or cut.stop * stride // own > before[dim]:
        return Refusal(node, f"{cut.start}:{cut.stop} of dimension {cut.dim} of {after} is no slice of {before}")
    sizes = [*after[: cut.dim], cut.size, *after[cut.dim + 1 :]]
    return _first(node, Cut(dim, cut.start * stride // own, cut.stop * stride // own), sizes)


def _behind(sizes: Sequence[int], product: int) -> int | None:
    """The last dimension in front of which the sizes multiply to `product`."""
    found = [d for d in range(len(sizes)) if math.prod(sizes[:d]) == product]
    return found[-1] if found else None


def _permute(node: fx.Node, cut: Cut) -> Pulled | Refusal:
    order = arguments(node)["dims"]
    return _first(node, Cut(order[cut.dim] % len(order), cut.start, cut.stop))


def _expand(node: fx.Node, cut: Cut) -> Pulled | Refusal:
    x, sizes = node.args[0], list(shape_of(node))
    sizes[cut.dim] = cut.size
    return Pulled(node.target, (_broadcast(len(sizes), x, cut), sizes), {})


def _slice(node: fx.Node, cut: Cut) -> Pulled | Refusal:
    given = arguments(node)
    sizes = shape_of(given["self"])
    dim = given["dim"] % len(sizes)
    if node.target is aten.select.int:
        return _first(node, Cut(cut.dim + (cut.dim >= dim), cut.start, cut.stop), dim, given["index"])
    if dim != cut.dim:
        return _first(node, cut)
    offset, _, step = slice(given["start"], given["end"], given["step"]).indices(sizes[dim])
    if step != 1:
        return Refusal(node, "a slice with a step")
    return Pulled(None, (Part(given["self"], Cut(dim, offset + cut.start, offset + cut.stop)),), {})


def _cat(node: fx.Node, cut: Cut) -> Pulled | Refusal:
    given = arguments(node)
    dim = given["dim"] % len(shape_of(node))
    if dim != cut.dim:
        return Pulled(node.target, ([Part(x, cut) for x in given["tensors"]], dim), {})
    parts, offset = [], 0
    for x in given["tensors"]:
        size = shape_of(x)[dim]
        start, stop = max(cut.start - offset, 0), min(cut.stop - offset, size)
        if start < stop:
            parts.append(x if stop - start == size else Part(x, Cut(dim, start, stop)))
        offset += size
    return Pulled(None, (parts[0],), {}) if len(parts) == 1 else Pulled(node.target, (parts, dim), {})


def _pad(node: fx.Node, cut: Cut) -> Pulled | Refusal:
    padded = len(arguments(node)["pad"]) // 2
    if cut.dim >= len(shape_of(node)) - padded:
        return Refusal(node, "the sliced dimension is padded")
    return _first(node, cut)


def _turn(node: fx.Node, cut: Cut) -> Pulled | Refusal:
    rank = len(shape_of(node))
    if cut.dim in {d % rank for d in arguments(node)["dims"]} or not arguments(node)["dims"]:
        return Refusal(node, "it moves values along the sliced dimension")
    return _first(node, cut)


def keeps_rows(view: fx.Node) -> bool:
    """Whether a view leaves the last dimension alone, so that it acts on rows and on a factor per row alike."""
    if view.target is aten.reshape.default:
        return shape_of(view)[-1:] == shape_of(view.args[0])[-1:]  # type: ignore[arg-type]
    if view.target is aten.permute.default:
        order: Any = view.args[1]
        return bool(order[-1] % len(order) == len(order) - 1)
    if view.target in (aten.slice.Tensor, aten.select.int, mpc.gather):
        rank = len(shape_of(view.args[0]))  # type: ignore[arg-type]
        return bool(view.args[1] % rank != rank - 1)  # type: ignore[operator]
    return False


# Every other non-linear operator works on each value by itself.
NOT_ELEMENTWISE = {"softmax", "layer_norm", "rms_norm", "group_norm", "amax", "max_pool2d"}

RULES: dict[Any, Rule] = {
    **{target: _elementwise for name, target in SITES.items() if name not in NOT_ELEMENTWISE},
    **dict.fromkeys((aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor), _elementwise),
    **dict.fromkeys((aten.neg.default, aten.pow.Tensor_Scalar), _elementwise),
    aten.softmax.int: _softmax,
    **dict.fromkeys((aten.layer_norm.default, aten.rms_norm.default), _norm),
    aten.linear.default: _linear,
    aten.matmul.default: _matmul,
    **dict.fromkeys((aten.sum.dim_IntList, aten.mean.dim), _reduction),
    aten.reshape.default: _reshape,
    aten.permute.default: _permute,
    aten.expand.default: _expand,
    **dict.fromkeys((aten.slice.Tensor, aten.select.int), _slice),
    aten.cat.default: _cat,
    aten.constant_pad_nd.default: _pad,
    **dict.fromkeys((aten.roll.default, aten.flip.default), _turn),
}
