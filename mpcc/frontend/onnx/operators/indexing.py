"""Gathers and scatters. With known indices all of them are one `index` on a reshaped tensor; the winner of a scatter is
decided here."""

from __future__ import annotations

import math

import torch
from torch import fx

from ..op import Op, Table, dtype_of, rank, shape_of
from ..recorder import Value, aten
from .views import cut


def gather(op: Op, x: Value, indices: Value) -> Value:
    """x at `indices` of one axis: a select, a slice, or an index. Indices that are not known are an embedding."""
    axis = op.axis(0, rank(x))
    size = shape_of(x)[axis]
    if not op.recorder.is_known(indices):
        if axis == 0 and rank(x) == 2:
            return op.call(aten.embedding.default, x, indices)
        return op.call(aten.index.Tensor, x, [*[None] * axis, indices])
    places = _positive(op.known(indices, "the indices"), size)
    if places.dim() == 0:
        return op.call(aten.select.int, x, axis, int(places))
    if places.dim() == 1 and len(places) and torch.equal(places, torch.arange(len(places)) + places[0]):
        return cut(op, x, axis, int(places[0]), int(places[-1]) + 1)
    return op.gather(x, axis, places)


def _positive(indices: torch.Tensor, size: int) -> torch.Tensor:
    return torch.where(indices < 0, indices + size, indices)


def gather_elements(op: Op, x: Value, indices: Value) -> Value:
    axis = op.axis(0, rank(x))
    if not isinstance(x, fx.Node) or not op.recorder.is_known(indices):
        return op.call(aten.gather.default, x, axis, indices)
    places = _positive(op.known(indices, "the indices"), shape_of(x)[axis])
    return _at(op, x, _element_places(shape_of(x), places, axis))


def gather_nd(op: Op, x: Value, indices: Value) -> Value:
    """The last axis of `indices` is a place in x, behind `batch_dims` common axes."""
    places = op.known(indices, "the indices")
    batch, shape = op.integer("batch_dims"), shape_of(x)
    reached = batch + places.shape[-1]
    grid = torch.meshgrid(*(torch.arange(size) for size in shape[:batch]), indexing="ij") if batch else ()
    lead = [part.reshape(*part.shape, *[1] * (places.dim() - 1 - batch)).expand(places.shape[:-1]) for part in grid]
    columns = [*lead, *(_positive(column, shape[batch + i]) for i, column in enumerate(places.unbind(-1)))]
    flat = _ravel(columns, shape[:reached])
    rows = op.reshape(x, [math.prod(shape[:reached]), *shape[reached:]])
    return op.call(aten.index.Tensor, rows, [flat])


def scatter_nd(op: Op, x: Value, indices: Value, updates: Value) -> Value:
    """x with slices replaced: of all slices with the updates below them, an index picks the last one written."""
    reduction = op.choice("reduction", "none", "add", "mul", "max", "min")
    places = op.known(indices, "the indices")
    shape, depth = shape_of(x), places.shape[-1]
    columns = [_positive(column, shape[i]) for i, column in enumerate(places.unbind(-1))]
    flat = _ravel(columns, shape[:depth]).reshape(-1)
    rows = [math.prod(shape[:depth]), *shape[depth:]]
    below = op.reshape(updates, [len(flat), *shape[depth:]])
    return op.reshape(_written(op, op.reshape(x, rows), below, flat, reduction), shape)


def scatter_elements(op: Op, x: Value, indices: Value, updates: Value) -> Value:
    reduction = op.choice("reduction", "none", "add", "mul", "max", "min")
    axis, shape = op.axis(0, rank(x)), shape_of(x)
    places = _positive(op.known(indices, "the indices"), shape[axis])
    flat = _element_places(shape, places, axis).reshape(-1)
    new = op.reshape(updates, [len(flat)])
    return op.reshape(_written(op, op.reshape(x, [math.prod(shape)]), new, flat, reduction), shape)


def tensor_scatter(op: Op, x: Value, updates: Value, starts: Value | None = None) -> Value:
    """A cache x with updates written behind known starts along one axis, one start a sequence of the batch."""
    shape, axis = shape_of(x), op.front(op.integer("axis", -2), rank(x))
    wraps = op.choice("mode", "linear", "circular") == "circular"
    first = torch.zeros(shape[0], dtype=torch.int64) if starts is None else op.known(starts, "where it writes")
    grid = list(torch.meshgrid(*(torch.arange(size) for size in shape_of(updates)), indexing="ij"))
    grid[axis] = grid[axis] + first.reshape(-1, *[1] * (len(shape) - 1))
    if wraps:
        grid[axis] = grid[axis] % shape[axis]
    if bool((grid[axis] >= shape[axis]).any()):
        op.refuse("it writes behind the end of the cache")
    flat = _ravel(grid, shape).reshape(-1)
    new = op.reshape(updates, [len(flat)])
    return op.reshape(_replaced(op, op.reshape(x, [math.prod(shape)]), new, flat), shape)


COMBINED = {"add": (aten.add.Tensor, 0.0), "mul": (aten.mul.Tensor, 1.0), "max": (aten.maximum.default, None),
            "min": (aten.minimum.default, None)}  # fmt: skip


def _written(op: Op, rows: Value, updates: Value, places: torch.Tensor, reduction: str) -> Value:
    """rows with the updates written, or combined with what is there: the k-th update of each place in the k-th round."""
    if reduction == "none":
        return _replaced(op, rows, updates, places)
    target, neutral = COMBINED[reduction]
    count, shape = shape_of(rows)[0], shape_of(rows)[1:]
    turns = torch.zeros_like(places)
    for number, place in enumerate(places.tolist()):
        turns[number] = (places[:number] == place).sum()
    for turn in range(op.parts(int(turns.max()) + 1 if len(turns) else 0, "the updates of one place")):
        own = torch.arange(count) if neutral is None else torch.full((count,), count + len(places))
        mine = (turns == turn).nonzero().reshape(-1)
        own[places[mine]] = count + mine
        filler = [] if neutral is None else [torch.full((1, *shape), neutral)]
        both = op.call(aten.cat.default, [rows, updates, *filler], 0)
        rows = op.call(target, rows, op.call(aten.index.Tensor, both, [own]))
    return rows


def _replaced(op: Op, rows: Value, updates: Value, places: torch.Tensor) -> Value:
    count = shape_of(rows)[0]
    source = torch.arange(count)
    for number, place in enumerate(places.tolist()):
        source[place] = count + number
    both = op.call(aten.cat.default, [rows, updates], 0)
    return op.call(aten.index.Tensor, both, [source])


def _element_places(shape: tuple[int, ...], places: torch.Tensor, axis: int) -> torch.Tensor:
    """The flat place of element [.., places[..], ..] in a tensor of `shape`."""
    columns = list(torch.meshgrid(*(torch.arange(size) for size in places.shape), indexing="ij"))
    columns[axis] = places
    return _ravel(columns, shape)


def _ravel(columns: list[torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor:
    flat = torch.zeros_like(columns[0])
    for column, size in zip(columns, shape, strict=True):
        flat = flat * size + column
    return flat


def _at(op: Op, x: Value, flat: torch.Tensor) -> Value:
    return op.call(aten.index.Tensor, op.reshape(x, [math.prod(shape_of(x))]), [flat])


def one_hot(op: Op, indices: Value, depth: Value, values: Value) -> Value:
    """`values` are (elsewhere, at the index). A secret index is one of a class or token, which is never counted from the end."""
    count = op.known_ints(depth, "the depth")[0]
    if isinstance(indices, fx.Node) and not op.recorder.is_known(indices):
        off, on = op.known(values, "the values").reshape(-1).tolist()
        axes = list(range(rank(indices)))
        axes.insert(op.axis(-1, rank(indices) + 1), rank(indices))
        hot = op.permute(op.call(aten.one_hot.default, indices, op.parts(count, "the depth")), axes)
        return hot if (off, on) == (0, 1) else op.add(op.mul(hot, on - off), off)
    places = _positive(op.known(indices, "the indices"), count)
    off, on = op.known(values, "the values").reshape(-1)
    axis = op.axis(-1, places.dim() + 1)
    hot = torch.movedim(places.unsqueeze(-1) == torch.arange(count), -1, axis)
    return torch.where(hot, on, off)


def top_k(op: Op, x: Value, k: Value | None = None) -> tuple[Value, Value]:
    count = op.parts(op.integer("k") if k is None else op.known_ints(k, "k")[0], "k")
    axis, largest = op.axis(-1, rank(x)), op.flag("largest", True)
    op.flag("sorted", True)  # the largest first serves either way
    if not isinstance(x, fx.Node) or op.recorder.is_known(x):
        found = torch.topk(op.known(x, "x"), count, axis, largest, True)
        return found.values, found.indices
    both = op.call(aten.topk.default, x, count, axis, largest, True)
    return op.item(both, 0), op.item(both, 1)


def non_zero(op: Op, x: Value) -> Value:
    return op.known(x, "which elements are zero").nonzero().t()


def arg_max(op: Op, x: Value) -> Value:
    return _arg(op, x, aten.argmax.default)


def arg_min(op: Op, x: Value) -> Value:
    return _arg(op, x, aten.argmin.default)


def _arg(op: Op, x: Value, target: object) -> Value:
    axis, keep = op.axis(0, rank(x)), op.flag("keepdims", True)
    if not op.flag("select_last_index"):
        return op.call(target, x, axis, keep)
    place = op.call(target, op.call(aten.flip.default, x, [axis]), axis, keep)
    return op.add(op.call(aten.neg.default, place), shape_of(x)[axis] - 1)


def cum_sum(op: Op, x: Value, axis: Value) -> Value:
    """A product with a known triangle: sums are linear."""
    along = op.front(op.known_ints(axis, "the axis")[0], rank(x))
    size = shape_of(x)[along]
    before = torch.ones(size, size, dtype=dtype_of(x)).triu(1 if op.flag("exclusive") else 0)
    triangle = before.t() if op.flag("reverse") else before
    last = [*(i for i in range(rank(x)) if i != along), along]
    moved = op.call(aten.matmul.default, op.permute(x, last), triangle)
    return op.permute(moved, [last.index(i) for i in range(rank(x))])


def cum_prod(op: Op, x: Value, axis: Value) -> Value:
    """One product after the other."""
    along = op.front(op.known_ints(axis, "the axis")[0], rank(x))
    size = op.parts(shape_of(x)[along], "the number of factors")
    items = [op.call(aten.select.int, x, along, place) for place in range(size)]
    items = items[::-1] if op.flag("reverse") else items
    if op.flag("exclusive"):
        items = [op.call(aten.ones_like.default, items[0]), *items[:-1]]
    made = items[:1]
    for item in items[1:]:
        made.append(op.mul(made[-1], item) if isinstance(made[-1], fx.Node) else op.mul(item, made[-1]))
    return op.call(aten.stack.default, made[::-1] if op.flag("reverse") else made, along)


def reverse_sequence(op: Op, x: Value, lengths: Value) -> Value:
    """The first steps of every sequence turned round, as many as its known length."""
    batch, time = op.integer("batch_axis", 1), op.integer("time_axis", 0)
    known = op.known(lengths, "the lengths")
    steps = torch.arange(shape_of(x)[time])
    turned = torch.where(steps < known[:, None], known[:, None] - 1 - steps, steps)  # [batch, time]
    shape = [1] * rank(x)
    shape[batch], shape[time] = turned.shape
    turned = (turned if batch < time else turned.T).reshape(shape).expand(shape_of(x))
    return _at(op, x, _element_places(shape_of(x), turned, time))


def compress(op: Op, x: Value, condition: Value) -> Value:
    """The places of an axis, or of all elements, at which a known condition holds."""
    places = op.known(condition, "the condition").reshape(-1).nonzero().reshape(-1)
    if op.has("axis"):
        return op.gather(x, op.axis(0, rank(x)), places)
    return op.gather(op.reshape(x, [math.prod(shape_of(x))]), 0, places)


OPERATORS: Table = {
    ("", "CumProd"): cum_prod,
    ("", "ReverseSequence"): reverse_sequence,
    ("", "Compress"): compress,
    ("", "TensorScatter"): tensor_scatter,
    ("", "Gather"): gather,
    ("", "GatherElements"): gather_elements,
    ("", "GatherND"): gather_nd,
    ("", "ScatterND"): scatter_nd,
    ("", "ScatterElements"): scatter_elements,
    ("", "Scatter"): scatter_elements,
    ("", "OneHot"): one_hot,
    ("", "TopK"): top_k,
    ("", "NonZero"): non_zero,
    ("", "ArgMax"): arg_max,
    ("", "ArgMin"): arg_min,
    ("", "CumSum"): cum_sum,
}
