"""Writing at constant places: every element of the result is one of the old ones, one of the new ones, or a sum of these.

What torch does with the places is never written out here. Where nothing is added up, torch itself runs on the numbers of
the elements instead of the elements, and what comes out is the places of a gather. Where values are added up, the k-th of
each place is gathered in the k-th round. One secret place in every row is a one-hot row of comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..builder import Builder
from ..number_kinds import BIT
from ..values import Constant, Decline, Rules, Value, axis, known, plain, shape
from .comparisons import where
from .gathers import one_hot

aten = torch.ops.aten
# Values that are added up at one place; more are a product with a matrix in the model itself.
MOST_ROUNDS = 64


def moved(target: Any, takes: int) -> Any:
    """The rule of `target`, which copies elements of its argument number `takes` into its first."""

    def rule(b: Builder, x: Value, *args: Any, **kwargs: Any) -> Any:
        source, others = args[takes - 1], (*args[: takes - 1], *args[takes:])
        if target is aten.scatter.src and _secret_row(x, *args):
            return assigned(b, x, args[0], args[1], source)
        if not known((others, kwargs)):
            raise Decline("writes at secret places")
        if not isinstance(source, (Constant, torch.fx.Node)):
            source = Constant(torch.tensor(float(source)))
        count = _count(shape(x))
        numbers = torch.arange(count + _count(shape(source)), dtype=torch.int64)
        old, new = numbers[:count].reshape(shape(x)), numbers[count:].reshape(shape(source))
        given = plain(args)
        places = target(old, *given[: takes - 1], new, *given[takes:], **plain(kwargs))
        both = b.cat([b.reshape(x, [-1]), b.reshape(source, [-1])], 0)
        return b.reshape(b.gather(both, 0, places.flatten()), list(places.shape))

    return rule


def filled(target: Any, takes: int) -> Any:
    """The rule of `target`, which writes a number or a tensor of one element."""
    copies = moved(target, takes)

    def rule(b: Builder, x: Value, *args: Any, **kwargs: Any) -> Any:
        value = args[takes - 1]
        if isinstance(value, (Constant, torch.fx.Node)):
            return copies(b, x, *args, **kwargs)
        if target is aten.scatter.value and _secret_row(x, *args):
            return assigned(b, x, args[0], args[1], value)
        if not known((args, kwargs)):
            raise Decline("writes at secret places")
        where = target(torch.zeros(shape(x)), *plain(args[: takes - 1]), 1, **plain(kwargs))
        return b.add(b.mul(x, Constant(1 - where)), Constant(where * float(value)))

    return rule


def assigned(b: Builder, x: Value, dim: int, index: torch.fx.Node, value: Any) -> Any:
    """x with `value` at one secret place of every row: the hard assignment of an argmax, a one-hot row of comparisons."""
    at = axis(dim, x)
    hot = b.reshape(b.swap(one_hot(b, index, shape(x)[at]), at, -1), list(shape(x)))
    hot.meta[BIT] = True
    empty = isinstance(x, Constant) and not x.trainable and not x.value.any()
    return where(b, hot, value, 0.0 if empty else x)


def _secret_row(x: Value, dim: Any, index: Any, source: Any) -> bool:
    """Whether one place in every row of x is written to, which the input decides, with one value for each row."""
    if not isinstance(index, torch.fx.Node) or not shape(x):
        return False
    rows = [1 if at == axis(dim, x) else size for at, size in enumerate(shape(x))]
    single = not isinstance(source, (Constant, torch.fx.Node)) or list(shape(source)) == rows
    return list(shape(index)) == rows and single


def scatter_add(b: Builder, x: Value, dim: int, index: Any, source: Value) -> Any:
    if not isinstance(index, Constant):
        raise Decline("writes at secret places")
    taken = tuple(slice(0, size) for size in index.value.shape)
    numbers = torch.arange(_count(shape(source))).reshape(shape(source))[taken]
    places = torch.arange(_count(shape(x))).reshape(shape(x))
    grid = list(torch.meshgrid(*(torch.arange(size) for size in index.value.shape), indexing="ij"))
    if grid:
        grid[axis(dim, x)] = index.value
    return _added(b, x, places[tuple(grid)].flatten(), source, numbers.flatten())


def scatter_reduce(b: Builder, x: Value, dim: int, index: Any, source: Value, reduce: str, **options: Any) -> Any:
    if reduce not in ("sum", "add") or not options.get("include_self", True):
        raise Decline(f"scatters with the reduction {reduce}")
    return scatter_add(b, x, dim, index, source)


def index_add(b: Builder, x: Value, dim: int, index: Any, source: Value, *, alpha: float = 1) -> Any:
    if not isinstance(index, Constant):
        raise Decline("writes at secret places")
    places = torch.arange(_count(shape(x))).reshape(shape(x))
    written = places.index_select(axis(dim, x), index.value.reshape(-1)).flatten()
    source = source if alpha == 1 else b.mul(source, alpha)
    return _added(b, x, written, source, torch.arange(len(written)))


def index_put(b: Builder, x: Value, indices: Sequence[Any], values: Value, accumulate: bool = False) -> Any:
    if not known(indices):
        raise Decline("writes at secret places")
    if not accumulate:
        copied: Value = moved(aten.index_put.default, 2)(b, x, indices, values)
        return copied
    places = torch.arange(_count(shape(x))).reshape(shape(x))
    written = aten.index.Tensor(places, plain(indices))
    numbers = torch.arange(_count(shape(values))).reshape(shape(values)).expand(written.shape)
    return _added(b, x, written.flatten(), values, numbers.flatten())


def _added(b: Builder, x: Value, places: torch.Tensor, source: Value, numbers: torch.Tensor) -> Any:
    """x with source.flatten()[numbers] added at x.flatten()[places]."""
    count, zero = _count(shape(x)), _count(shape(source))
    flat = b.cat([b.reshape(source, [-1]), Constant(torch.zeros(1))], 0)
    rounds = torch.full((0, count), zero)
    if len(places):
        order = places.argsort(stable=True)
        ordered = places[order]
        first = torch.searchsorted(ordered, ordered)
        turn = torch.arange(len(ordered)) - first
        if int(turn.max()) >= MOST_ROUNDS:
            raise Decline(f"adds up {int(turn.max()) + 1} values at one place, more than {MOST_ROUNDS}")
        rounds = torch.full((int(turn.max()) + 1, count), zero)
        rounds[turn, ordered] = numbers[order]
    for taken in rounds:
        x = b.add(x, b.reshape(b.gather(flat, 0, taken), list(shape(x))))
    return x


def _count(sizes: Sequence[int]) -> int:
    return torch.Size(sizes).numel()


_MOVED: dict[str, int] = {
    "scatter.src": 3, "index_copy.default": 3, "slice_scatter.default": 1, "select_scatter.default": 1,
    "diagonal_scatter.default": 1, "masked_scatter.default": 2,
}  # fmt: skip
_FILLED: dict[str, int] = {"scatter.value": 3, "index_fill.int_Scalar": 3, "index_fill.int_Tensor": 3}


def _overload(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(aten, packet), overload)


_RULES: dict[Any, Callable[..., Any]] = {
    aten.scatter_add.default: scatter_add,
    aten.scatter_reduce.two: scatter_reduce,
    aten.index_add.default: index_add,
    aten.index_put.default: index_put,
    **{_overload(name): moved(_overload(name), place) for name, place in _MOVED.items()},
    **{_overload(name): filled(_overload(name), place) for name, place in _FILLED.items()},
}
RULES: Rules = _RULES
