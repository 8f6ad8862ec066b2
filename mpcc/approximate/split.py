r"""A split site: every part by its own approximation, the parts joined and their positions put back. Views only.

    x -> take(x, [0, 2]) -> softmax_relu    -\
      -> take(x, [1, 3]) -> softmax_scaling -> cat -> take([0, 2, 1, 3])

The parts do not depend on one another: their openings travel together, so rounds are those of the longest part and
bytes are the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import fx

from mpcc.errors import PlanError
from mpcc.ir import mpc
from mpcc.ir.nn import shape_of, target_name
from mpcc.ir.trace import Recorder, Symbol

from .plan import Split

aten = torch.ops.aten

WHOLE = {
    aten.amax.default, aten.max_pool2d.default, aten.group_norm.default, aten.maximum.default, aten.minimum.default,
    aten.linalg_vector_norm.default,
}  # fmt: skip
"""Operators that cannot be split: they have several operands, or their result has other positions."""


def split_dim(node: fx.Node, split: Split) -> int:
    """The dimension of a split at a site, counted from the front; PlanError where the split does not fit."""
    site, operand = f"site {node.meta.get('site')}", node.args[0]
    assert isinstance(operand, fx.Node)
    sizes = shape_of(operand)
    if node.target in WHOLE:
        raise PlanError(f"{target_name(node)} cannot be split into parts", where=site)
    if not -len(sizes) <= split.dim < len(sizes):
        raise PlanError(f"there is no dimension {split.dim} in an input of shape {list(sizes)}", where=site)
    dim = split.dim % len(sizes)
    if dim not in free_dims(node):
        raise PlanError(f"{target_name(node)} works along dimension {split.dim}, which cannot be split", where=site)
    for part in split.parts:
        if part.index[-1] >= sizes[dim]:
            raise PlanError(f"position {part.index[-1]} is outside dimension {split.dim} of size {sizes[dim]}", where=site)
    if split.size != sizes[dim]:
        listed = f"{split.size}-{sizes[dim] - 1}" if split.size + 1 < sizes[dim] else str(split.size)
        raise PlanError(f"position(s) {listed} of dimension {split.dim} belong to no part", where=site)
    return dim


def split_function(node: fx.Node, split: Split, functions: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    """The function of a site's operands that applies `functions`, one for each part."""
    dim = split_dim(node, split)

    def call(*args: Any, **kwargs: Any) -> Any:
        x, *rest = args
        made = []
        for part, function in zip(split.parts, functions, strict=True):
            with _noted(x, part=part.label, made_by=part.choice.approximation):
                made.append(function(mpc.gather(x, dim, part.index), *rest, **kwargs))
        return join(made, dim, [part.index for part in split.parts])

    return call


def join(parts: Sequence[Any], dim: int, indices: Sequence[Sequence[int]]) -> Any:
    """Parts along `dim` at the positions `indices`, as one tensor in order."""
    if len(parts) == 1:
        return parts[0]
    order = inverse([position for index in indices for position in index])
    whole = aten.cat.default(list(parts), dim)
    return whole if order == tuple(range(len(order))) else mpc.gather(whole, dim, order)


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `order`."""
    places = {position: place for place, position in enumerate(order)}
    return tuple(places[position] for position in range(len(order)))


def bind(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an ATen call by name, defaults filled in."""
    bound: dict[str, Any] = {}
    for position, argument in enumerate(target._schema.arguments):
        if position < len(args):
            bound[argument.name] = args[position]
        elif argument.name in kwargs:
            bound[argument.name] = kwargs[argument.name]
        elif argument.has_default_value():
            bound[argument.name] = argument.default_value
    return bound


def free_dims(node: fx.Node) -> tuple[int, ...]:
    """The dimensions of a site's operand whose positions do not meet in its operator: it may be cut there."""
    operand = node.args[0]
    if node.target in WHOLE or not isinstance(operand, fx.Node):
        return ()
    rank = len(shape_of(operand))
    return tuple(sorted(set(range(rank)) - _joined(node, rank)))


def _joined(node: fx.Node, rank: int) -> set[int]:
    """The dimensions along which a site's operator brings positions together."""
    given = bind(node.target, node.args, node.kwargs)
    if node.target is aten.softmax.int:
        return {int(given["dim"]) % rank}
    if node.target in (aten.layer_norm.default, aten.rms_norm.default):
        return set(range(rank - len(given["normalized_shape"]), rank))
    return set()


def _noted(x: Any, *, part: str, made_by: str) -> Any:
    """While recording, let the nodes of a part say so."""
    recorder = x.tracer if isinstance(x, Symbol) else None
    if not isinstance(recorder, Recorder):
        return nullcontext()
    return recorder.noting(part=part, made_by=(*recorder.extra.get("made_by", ()), made_by))
