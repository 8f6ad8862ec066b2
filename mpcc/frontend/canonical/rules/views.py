"""Views: reshape, permute, expand, slice, select, cat say all of them.

view, flatten, unsqueeze, squeeze ... -> reshape; transpose, t, movedim ... -> permute; split, chunk, unbind -> slices
and selects; stack, repeat -> reshape, cat, expand. Views that change nothing are not made.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from ..builder import Builder
from ..values import Decline, Rules, Value, axis, called, dtype, rank, shape

aten = torch.ops.aten


def reshape(b: Builder, x: Value, to: Sequence[int]) -> Any:
    old = shape(x)
    new = list(to)
    if -1 in new:
        rest = prod(size for size in new if size != -1)
        new[new.index(-1)] = prod(old) // rest if rest else 0
    if tuple(new) == old:
        return x
    if called(x, aten.reshape.default):
        return reshape(b, x.args[0], new)  # type: ignore[arg-type]
    return b.emit(aten.reshape.default, x, new)


def view_dtype(b: Builder, x: Value, to: torch.dtype) -> Any:
    if to == dtype(x):
        return x
    raise Decline("reads the bits of a secret value as another type")


def flatten(b: Builder, x: Value, start_dim: int = 0, end_dim: int = -1) -> Any:
    if rank(x) == 0:
        return reshape(b, x, [1])
    start, end = axis(start_dim, x), axis(end_dim, x)
    sizes = shape(x)
    return reshape(b, x, [*sizes[:start], prod(sizes[start : end + 1]), *sizes[end + 1 :]])


def unflatten(b: Builder, x: Value, dim: int, sizes: Sequence[int]) -> Any:
    at, old = axis(dim, x), shape(x)
    new = list(sizes)
    if -1 in new:
        new[new.index(-1)] = old[at] // -prod(new)
    return reshape(b, x, [*old[:at], *new, *old[at + 1 :]])


def unsqueeze(b: Builder, x: Value, dim: int) -> Any:
    at, sizes = axis(dim, rank(x) + 1), shape(x)
    return reshape(b, x, [*sizes[:at], 1, *sizes[at:]])


def squeeze(b: Builder, x: Value) -> Any:
    return reshape(b, x, [size for size in shape(x) if size != 1])


def squeeze_dims(b: Builder, x: Value, dims: int | Sequence[int]) -> Any:
    gone = {axis(dim, x) for dim in ([dims] if isinstance(dims, int) else dims)}
    return reshape(b, x, [size for i, size in enumerate(shape(x)) if size != 1 or i not in gone])


def view_as(b: Builder, x: Value, other: Value) -> Any:
    return reshape(b, x, shape(other))


def permute(b: Builder, x: Value, order: Sequence[int]) -> Any:
    new = [axis(dim, x) for dim in order]
    if called(x, aten.permute.default):
        first: Any = x.args[1]
        return permute(b, x.args[0], [first[dim] for dim in new])  # type: ignore[arg-type]
    if new == sorted(new):
        return x
    return b.emit(aten.permute.default, x, new)


def transpose(b: Builder, x: Value, first: int, second: int) -> Any:
    order = list(range(rank(x)))
    if order:
        order[first], order[second] = order[second], order[first]
    return permute(b, x, order)


def reverse_axes(b: Builder, x: Value) -> Any:
    return permute(b, x, range(rank(x))[::-1])


def matrix_transpose(b: Builder, x: Value) -> Any:
    return transpose(b, x, -2, -1)


def movedim(b: Builder, x: Value, source: int | Sequence[int], destination: int | Sequence[int]) -> Any:
    sources = [axis(dim, x) for dim in ([source] if isinstance(source, int) else source)]
    targets = [axis(dim, x) for dim in ([destination] if isinstance(destination, int) else destination)]
    rest = iter(dim for dim in range(rank(x)) if dim not in sources)
    placed = dict(zip(targets, sources, strict=True))
    return permute(b, x, [placed[i] if i in placed else next(rest) for i in range(rank(x))])


def expand(b: Builder, x: Value, to: Sequence[int], implicit: bool = False) -> Any:
    old = (1,) * (len(to) - rank(x)) + shape(x)
    new = [size if wanted == -1 else wanted for size, wanted in zip(old, to, strict=True)]
    x = reshape(b, x, old)
    return x if tuple(new) == old else b.emit(aten.expand.default, x, new)


def expand_as(b: Builder, x: Value, other: Value) -> Any:
    return expand(b, x, shape(other))


def repeat(b: Builder, x: Value, repeats: Sequence[int]) -> Any:
    """x [a, b] tiled (m, n) -> [1, a, 1, b] -> [m, a, n, b] -> [m a, n b]."""
    sizes = (1,) * (len(repeats) - rank(x)) + shape(x)
    apart = [part for size in sizes for part in (1, size)]
    grown = [part for times, size in zip(repeats, sizes, strict=True) for part in (times, size)]
    tiled = expand(b, reshape(b, x, apart), grown)
    return reshape(b, tiled, [times * size for times, size in zip(repeats, sizes, strict=True)])


def repeat_interleave(b: Builder, x: Value, repeats: int, dim: int | None = None, *, output_size: Any = None) -> Any:
    if dim is None:
        x, dim = flatten(b, x), 0
    at, sizes = axis(dim, x), shape(x)
    grown = expand(b, unsqueeze(b, x, at + 1), [*sizes[: at + 1], repeats, *sizes[at + 1 :]])
    return flatten(b, grown, at, at + 1)


def slice_(b: Builder, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    at = axis(dim, x)
    begin, stop, _ = slice(start, end, step).indices(shape(x)[at])
    if begin == 0 and stop == shape(x)[at] and step == 1:
        return x
    return b.emit(aten.slice.Tensor, x, at, begin, max(begin, stop), step)


def narrow(b: Builder, x: Value, dim: int, start: int, length: int) -> Any:
    begin = axis(start, shape(x)[dim])
    return slice_(b, x, dim, begin, begin + length)


def select(b: Builder, x: Value, dim: int, index: int) -> Any:
    at = axis(dim, x)
    return b.emit(aten.select.int, x, at, axis(index, shape(x)[at]))


def unbind(b: Builder, x: Value, dim: int = 0) -> Any:
    at = axis(dim, x)
    return [select(b, x, at, i) for i in range(shape(x)[at])]


def split_sizes(b: Builder, x: Value, sizes: Sequence[int], dim: int = 0) -> Any:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [slice_(b, x, dim, start, start + size) for start, size in zip(starts, sizes, strict=True)]


def split(b: Builder, x: Value, size: int, dim: int = 0) -> Any:
    whole = shape(x)[dim]
    return [slice_(b, x, dim, start, min(start + size, whole)) for start in range(0, whole, size)]


def chunk(b: Builder, x: Value, chunks: int, dim: int = 0) -> Any:
    return split(b, x, -(-shape(x)[dim] // chunks), dim)


def tensor_split(b: Builder, x: Value, sections: int, dim: int = 0) -> Any:
    small, larger = divmod(shape(x)[dim], sections)
    return split_sizes(b, x, [small + (i < larger) for i in range(sections)], dim)


def cat(b: Builder, parts: Sequence[Value], dim: int = 0) -> Any:
    real = [part for part in parts if shape(part) != (0,)]
    at = axis(dim, real[0])
    real = [part for part in real if shape(part)[at]]
    if len(real) == 1:
        return real[0]
    return b.emit(aten.cat.default, real, at)


def stack(b: Builder, parts: Sequence[Value], dim: int = 0) -> Any:
    at = axis(dim, rank(parts[0]) + 1)
    return cat(b, [b.do(aten.unsqueeze.default, part, at) for part in parts], at)


def roll(b: Builder, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Any:
    if not dims:
        flat = b.emit(aten.roll.default, flatten(b, x), list(shifts), [0])
        return reshape(b, flat, shape(x))
    moves = [(shift, axis(dim, x)) for shift, dim in zip(shifts, dims, strict=True) if shift % shape(x)[dim]]
    if not moves:
        return x
    return b.emit(aten.roll.default, x, [shift for shift, _ in moves], [dim for _, dim in moves])


def flip(b: Builder, x: Value, dims: Sequence[int]) -> Any:
    turned = [axis(dim, x) for dim in dims if shape(x)[dim] > 1]
    return b.emit(aten.flip.default, x, turned) if turned else x


def copy(b: Builder, x: Value, source: Value, non_blocking: bool = False) -> Any:
    return b.do(aten.expand.default, source, list(shape(x)))


def slice_scatter(
    b: Builder, x: Value, source: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Any:
    """x with x[start:end] = source -> cat of what stays and what is new."""
    at = axis(dim, x)
    begin, stop, _ = slice(start, end, step).indices(shape(x)[at])
    places = list(range(begin, stop, step))
    if step == 1:
        before, after = b.slice(x, at, 0, begin), b.slice(x, at, max(begin, stop), shape(x)[at])
        return b.cat([part for part in (before, source, after) if shape(part)[at]], at)
    order = torch.arange(shape(x)[at])
    order[places] = shape(x)[at] + torch.arange(len(places))
    return b.gather(b.cat([x, source], at), at, order)


def select_scatter(b: Builder, x: Value, source: Value, dim: int, index: int) -> Any:
    at = axis(dim, x)
    begin = axis(index, shape(x)[at])
    return slice_scatter(b, x, b.do(aten.unsqueeze.default, source, at), at, begin, begin + 1)


RULES: Rules = {
    **dict.fromkeys(
        (aten.reshape.default, aten.view.default, aten._unsafe_view.default, aten._reshape_alias.default), reshape
    ),
    aten.view.dtype: view_dtype,
    aten.flatten.using_ints: flatten,
    aten.unflatten.int: unflatten,
    aten.unsqueeze.default: unsqueeze,
    aten.squeeze.default: squeeze,
    aten.squeeze.dim: squeeze_dims,
    aten.squeeze.dims: squeeze_dims,
    aten.view_as.default: view_as,
    aten.reshape_as.default: view_as,
    aten.permute.default: permute,
    aten.transpose.int: transpose,
    aten.swapaxes.default: transpose,
    aten.swapdims.default: transpose,
    aten.t.default: reverse_axes,
    aten.numpy_T.default: reverse_axes,
    aten.mT.default: matrix_transpose,
    aten.movedim.int: movedim,
    aten.movedim.intlist: movedim,
    aten.expand.default: expand,
    aten.expand_as.default: expand_as,
    aten.repeat.default: repeat,
    aten.tile.default: repeat,
    aten.repeat_interleave.self_int: repeat_interleave,
    aten.slice.Tensor: slice_,
    aten.narrow.default: narrow,
    aten.select.int: select,
    aten.unbind.int: unbind,
    aten.split_with_sizes.default: split_sizes,
    aten.split.sizes: split_sizes,
    aten.split.Tensor: split,
    aten.chunk.default: chunk,
    aten.tensor_split.sections: tensor_split,
    aten.cat.default: cat,
    aten.concat.default: cat,
    aten.stack.default: stack,
    aten.roll.default: roll,
    aten.flip.default: flip,
    aten.copy.default: copy,
    aten.slice_scatter.default: slice_scatter,
    aten.select_scatter.default: select_scatter,
}
