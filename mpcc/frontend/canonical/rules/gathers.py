"""Gathers with constant indices, pads, and the rearrangements made of them: unfold, im2col, pixel shuffle, tril."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from ..builder import Builder
from ..number_kinds import is_whole
from ..values import Constant, Decline, Rules, Value, axis, rank, shape
from .comparisons import first_largest, largest_of

aten = torch.ops.aten
MOST_ROWS = 4096
"""Of a table in which a secret number is looked up: each is a comparison."""


def index(b: Builder, x: Value, indices: Sequence[Any]) -> Any:
    """x[indices]; masks become places. One index along one axis of equal steps is a slice."""
    if any(isinstance(item, fx.Node) and item.op != "get_attr" for item in indices):
        raise Decline("indices that depend on the input")
    places: list[Any] = []
    for item in indices:
        if isinstance(item, Constant) and item.value.dtype == torch.bool:
            places += [Constant(part) for part in item.value.nonzero(as_tuple=True)]
        else:
            places.append(Constant(item.value.long(), stem=item.stem) if isinstance(item, Constant) else item)
    used = [i for i, item in enumerate(places) if item is not None]
    if len(used) == 1 and isinstance(places[used[0]], Constant):
        only = places[used[0]].value
        if only.dim() == 0:
            return b.select(x, used[0], int(only))
        even = _even_steps(only % shape(x)[used[0]]) if only.dim() == 1 else None
        if even is not None:
            return b.slice(x, used[0], *even)
    return b.emit(aten.index.Tensor, x, places)


def _even_steps(places: torch.Tensor) -> tuple[int, int, int] | None:
    """start, end, step if `places` counts upwards evenly."""
    listed = places.tolist()
    if not listed:
        return None
    step = listed[1] - listed[0] if len(listed) > 1 else 1
    if step < 1 or listed != list(range(listed[0], listed[-1] + 1, step)):
        return None
    return listed[0], listed[-1] + 1, step


def index_select(b: Builder, x: Value, dim: int, places: Any) -> Any:
    return b.do(aten.index.Tensor, x, [*[None] * axis(dim, x), places])


def embedding(b: Builder, table: Value, places: Any, *rest: Any) -> Any:
    """The rows of `table` at `places`, in the shape of `places`."""
    if isinstance(places, fx.Node):
        return b.matmul(one_hot(b, places, shape(table)[0]), table)
    return b.do(aten.index.Tensor, table, [places])


def one_hot(b: Builder, places: fx.Node, rows: int) -> Any:
    """Secret whole numbers i [..] in [0, rows) -> [.., rows]: clamp(i - r + 1, 0, 1), which is 1 from row i back, less the next.

    Numbers below 0 count as 0, those too large as the last row. Of an argmax, the row that it was made of.
    """
    made_of = largest_of(b, places)
    if made_of is not None and shape(made_of[0])[made_of[1]] == rows:
        source, at = made_of
        return b.reshape(b.permute(first_largest(b, source, at), _last(rank(source), at)), [*shape(places), rows])
    if not is_whole(places):
        raise Decline("looks up rows by a secret number that need not be whole")
    if rows > MOST_ROWS:
        raise Decline(f"looks up one of {rows} rows by a secret number, more than {MOST_ROWS}")
    column = b.reshape(places, [*shape(places), 1])
    reached = b.do(aten.clamp.default, b.sub(column, Constant(torch.arange(rows - 1.0))), 0.0, 1.0)
    last = rank(column) - 1
    ends = [Constant(torch.full(shape(column), value)) for value in (1.0, 0.0)]
    return b.sub(b.cat([ends[0], reached], last), b.cat([reached, ends[1]], last))


def _last(count: int, at: int) -> list[int]:
    """The axes with that one moved behind the others."""
    return [*(axis for axis in range(count) if axis != at), at]


def gather(b: Builder, x: Value, dim: int, places: Any, **options: Any) -> Any:
    """torch.gather with constant places: an index over all axes."""
    if isinstance(places, fx.Node):
        raise Decline("gathers by secret places")
    at, table = axis(dim, x), places.value
    grid = list(torch.meshgrid(*(torch.arange(size) for size in table.shape), indexing="ij"))
    grid[at] = table
    return b.emit(aten.index.Tensor, x, [Constant(part.contiguous()) for part in grid])


def pad(b: Builder, x: Value, pads: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    if mode == "constant":
        return constant_pad(b, x, pads, value or 0.0)
    for i in range(0, len(pads), 2):
        dim = rank(x) - 1 - i // 2
        line = torch.arange(shape(x)[dim], dtype=torch.float64).reshape(1, 1, -1)
        padded = torch.nn.functional.pad(line, (pads[i], pads[i + 1]), mode)
        x = b.gather(x, dim, padded.flatten().long()) if pads[i] or pads[i + 1] else x
    return x


def pad_mode(mode: str) -> Any:
    def rule(b: Builder, x: Value, pads: Sequence[int]) -> Any:
        return pad(b, x, pads, mode)

    return rule


def constant_pad(b: Builder, x: Value, pads: Sequence[int], value: float = 0.0) -> Any:
    """Negative pads cut: they become slices."""
    for i, amount in enumerate(pads):
        if amount < 0:
            dim = rank(x) - 1 - i // 2
            end = shape(x)[dim]
            x = b.slice(x, dim, -amount, end) if i % 2 == 0 else b.slice(x, dim, 0, end + amount)
    grown = [max(amount, 0) for amount in pads]
    return b.emit(aten.constant_pad_nd.default, x, grown, value) if any(grown) else x


def pad_sequence(
    b: Builder, parts: Sequence[Value], batch_first: bool = False, value: float = 0.0, side: str = "right"
) -> Any:
    """Sequences [length, ..] of differing length, padded to the longest and stacked."""
    longest = max(shape(part)[0] for part in parts)
    padded = []
    for part in parts:
        missing = longest - shape(part)[0]
        ends = [0, missing] if side == "right" else [missing, 0]
        padded.append(b.do(aten.constant_pad_nd.default, part, [0, 0] * (rank(part) - 1) + ends, value))
    return b.do(aten.stack.default, padded, 0 if batch_first else 1)


def unfold(b: Builder, x: Value, dim: int, size: int, step: int) -> Any:
    """Tensor.unfold: [.., n, ..] -> [.., windows, .., size]."""
    at = axis(dim, x)
    windows = (shape(x)[at] - size) // step + 1
    others = [*shape(x)[:at], windows, size, *shape(x)[at + 1 :]]
    order = [i for i in range(rank(x) + 1) if i != at + 1] + [at + 1]
    if size == step:
        return b.permute(b.reshape(b.slice(x, at, 0, windows * size), others), order)
    places = torch.arange(windows)[:, None] * step + torch.arange(size)
    return b.permute(b.reshape(b.gather(x, at, places.flatten()), others), order)


def im2col(
    b: Builder, x: Value, kernel: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> Any:
    """x [n, c, h, w] -> [n, c kh kw, windows]."""
    n, c = shape(x)[:2]
    x = constant_pad(b, x, [padding[1], padding[1], padding[0], padding[0]])
    for dim, (size, spread, step) in enumerate(zip(kernel, dilation, stride, strict=True)):
        windows = (shape(x)[2 + 2 * dim] - spread * (size - 1) - 1) // step + 1
        places = torch.arange(size)[:, None] * spread + torch.arange(windows) * step
        taken = b.gather(x, 2 + 2 * dim, places.flatten())
        x = b.reshape(taken, [*shape(x)[: 2 + 2 * dim], size, windows, *shape(x)[3 + 2 * dim :]])
    columns = b.permute(x, [0, 1, 2, 4, 3, 5])  # n, c, kh, kw, windows down, windows across
    return b.reshape(columns, [n, c * kernel[0] * kernel[1], -1])


def col2im(
    b: Builder, x: Value, size: Sequence[int], kernel: Sequence[int], dilation: Sequence[int], padding: Sequence[int],
    stride: Sequence[int],
) -> Any:  # fmt: skip
    """x [n, c kh kw, windows] -> [n, c, h, w], overlaps added up."""
    n, area = shape(x)[0], kernel[0] * kernel[1]
    c, windows = shape(x)[1] // area, shape(x)[2]
    exact = all(k == s and not p and d == 1 for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True))
    if exact and all(whole % k == 0 for whole, k in zip(size, kernel, strict=True)):
        down, across = size[0] // kernel[0], size[1] // kernel[1]
        parts = b.permute(b.reshape(x, [n, c, kernel[0], kernel[1], down, across]), [0, 1, 4, 2, 5, 3])
        return b.reshape(parts, [n, c, *size])
    basis = torch.eye(area * windows).reshape(area * windows, area, windows)
    spread = torch.nn.functional.fold(basis, tuple(size), tuple(kernel), tuple(dilation), tuple(padding), tuple(stride))
    placed = b.matmul(b.reshape(x, [n, c, area * windows]), Constant(spread.flatten(1)))
    return b.reshape(placed, [n, c, *size])


def pixel_shuffle(b: Builder, x: Value, factor: int) -> Any:
    """[.., c r r, h, w] -> [.., c, h r, w r]."""
    *front, c, h, w = shape(x)
    k = len(front)
    apart = b.reshape(x, [*front, c // factor**2, factor, factor, h, w])
    mixed = b.permute(apart, [*range(k), k, k + 3, k + 1, k + 4, k + 2])
    return b.reshape(mixed, [*front, c // factor**2, h * factor, w * factor])


def pixel_unshuffle(b: Builder, x: Value, factor: int) -> Any:
    *front, c, h, w = shape(x)
    k = len(front)
    apart = b.reshape(x, [*front, c, h // factor, factor, w // factor, factor])
    mixed = b.permute(apart, [*range(k), k, k + 2, k + 4, k + 1, k + 3])
    return b.reshape(mixed, [*front, c * factor**2, h // factor, w // factor])


def channel_shuffle(b: Builder, x: Value, groups: int) -> Any:
    n, c, *rest = shape(x)
    return b.reshape(b.swap(b.reshape(x, [n, groups, c // groups, *rest]), 1, 2), [n, c, *rest])


def triangle(upper: bool) -> Any:
    def rule(b: Builder, x: Value, diagonal: int = 0) -> Any:
        ones = torch.ones(shape(x)[-2:])
        return b.mul(x, Constant(ones.triu(diagonal) if upper else ones.tril(diagonal)))

    return rule


def diagonal(b: Builder, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    first, second = axis(dim1, x), axis(dim2, x)
    rows = torch.arange(shape(x)[first])
    rows = rows[(rows + offset >= 0) & (rows + offset < shape(x)[second])]
    order = [i for i in range(rank(x)) if i not in (first, second)]
    front = b.permute(x, [first, second, *order])
    taken = b.emit(aten.index.Tensor, front, [Constant(rows), Constant(rows + offset)])
    return b.permute(taken, [*range(1, rank(x) - 1), 0])


def one_hot_rows(b: Builder, places: fx.Node, classes: int = -1) -> Any:
    if classes < 0:
        raise Decline("counts classes by the values of secret numbers")
    return one_hot(b, places, classes)


RULES: Rules = {
    aten.one_hot.default: one_hot_rows,
    aten.index.Tensor: index,
    aten.index_select.default: index_select,
    aten.embedding.default: embedding,
    aten.gather.default: gather,
    aten.pad.default: pad,
    aten.constant_pad_nd.default: constant_pad,
    **dict.fromkeys((aten.reflection_pad1d.default, aten.reflection_pad2d.default), pad_mode("reflect")),
    **dict.fromkeys((aten.replication_pad1d.default, aten.replication_pad2d.default), pad_mode("replicate")),
    aten.pad_sequence.default: pad_sequence,
    aten.unfold.default: unfold,
    aten.im2col.default: im2col,
    aten.col2im.default: col2im,
    aten.pixel_shuffle.default: pixel_shuffle,
    aten.pixel_unshuffle.default: pixel_unshuffle,
    aten.channel_shuffle.default: channel_shuffle,
    aten.native_channel_shuffle.default: channel_shuffle,
    aten.tril.default: triangle(False),
    aten.triu.default: triangle(True),
    aten.diagonal.default: diagonal,
}
