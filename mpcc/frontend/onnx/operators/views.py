"""Operators that move elements without computing: reshapes, transposes, joins, slices, pads. All are free."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..op import Op, Table, dtype_of, rank, shape_of
from ..recorder import Value, aten
from .windows import pad as pad_last


def identity(op: Op, x: Value) -> Value:
    return x


def reshape(op: Op, x: Value, shape: Value | None = None) -> Value:
    """0 copies the size, unless `allowzero`; -1 is what remains. The shape is an attribute before opset 5."""
    sizes = op.integers("shape") if shape is None else op.known_ints(shape, "the shape")
    if not op.flag("allowzero"):
        sizes = [shape_of(x)[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    count = math.prod(shape_of(x))
    if -1 in sizes:
        others = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = count // others if others else 0
    if math.prod(sizes) != count:
        op.refuse(f"{shape_of(x)} cannot be reshaped to {tuple(sizes)}", STATIC)
    return op.reshape(x, sizes)


STATIC = "the file may be made for another input shape: give the shape that it was exported with"


def flatten(op: Op, x: Value) -> Value:
    shape = shape_of(x)
    axis = op.integer("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return op.reshape(x, [math.prod(shape[:axis]), math.prod(shape[axis:])])


def squeeze(op: Op, x: Value, axes: Value | None = None) -> Value:
    shape = shape_of(x)
    found = op.axes(axes, len(shape))
    gone = {axis for axis, size in enumerate(shape) if size == 1} if found is None else set(found)
    return op.reshape(x, [size for axis, size in enumerate(shape) if axis not in gone])


def unsqueeze(op: Op, x: Value, axes: Value | None = None) -> Value:
    """The axes count in the result."""
    given = op.integers("axes") if axes is None else op.known_ints(axes, "the input axes")
    dims = rank(x) + len(given)
    new = {op.front(axis, dims) for axis in given}
    rest = iter(shape_of(x))
    return op.reshape(x, [1 if axis in new else next(rest) for axis in range(dims)])


def transpose(op: Op, x: Value) -> Value:
    return op.permute(x, op.integers("perm") or list(reversed(range(rank(x)))))


def concat(op: Op, *inputs: Value) -> Value:
    axis = op.axis(1, rank(inputs[0]))
    parts = [part for part in inputs if 0 not in shape_of(part)] or list(inputs[:1])
    return parts[0] if len(parts) == 1 else op.call(aten.cat.default, parts, axis)


def split(op: Op, x: Value, sizes: Value | None = None) -> tuple[Value, ...]:
    """Sizes are an input (since 13) or an attribute; else equal parts, the last one smaller (since 18)."""
    axis = op.axis(0, rank(x))
    total = shape_of(x)[axis]
    if sizes is not None:
        parts = op.known_ints(sizes, "the sizes of the parts")
    elif op.has("split"):
        parts = op.integers("split")
    else:
        count = op.parts(op.integer("num_outputs", len(op.node.output)), "the number of parts")
        each = -(-total // count)
        parts = [each] * (count - 1) + [total - each * (count - 1)]
    return tuple(pieces(op, x, axis, parts))


def pieces(op: Op, x: Value, axis: int, sizes: Sequence[int]) -> list[Value]:
    """`x` cut along `axis` into parts of these sizes."""
    found, start = [], 0
    for size in sizes:
        found.append(cut(op, x, axis, start, start + size))
        start += size
    return found


def cut(op: Op, x: Value, axis: int, start: int, end: int, step: int = 1) -> Value:
    """The slice start:end:step of one axis, both bounds within it."""
    if (start, end, step) == (0, shape_of(x)[axis], 1):
        return x
    return op.call(aten.slice.Tensor, x, axis, start, end, step)


def slice_(
    op: Op,
    x: Value,
    starts: Value | None = None,
    ends: Value | None = None,
    axes: Value | None = None,
    steps: Value | None = None,
) -> Value:
    """numpy's slices. Inputs since opset 10, attributes before; bounds beyond the axis mean its end."""
    if starts is None or ends is None:
        first, last = op.integers("starts"), op.integers("ends")
        along = op.integers("axes") or list(range(len(first)))
    else:
        first, last = op.known_ints(starts, "the starts"), op.known_ints(ends, "the ends")
        along = list(range(len(first))) if axes is None else op.known_ints(axes, "the axes")
    stride = [1] * len(first) if steps is None else op.known_ints(steps, "the steps")
    for axis, begin, end, step in zip(along, first, last, stride, strict=True):
        x = _slice_axis(op, x, op.front(axis, rank(x)), slice(begin, end, step))
    return x


def _slice_axis(op: Op, x: Value, axis: int, part: slice) -> Value:
    size = shape_of(x)[axis]
    begin, end, step = part.indices(size)
    if step > 0:
        return cut(op, x, axis, begin, max(end, begin), step)
    if end >= begin:
        return cut(op, x, axis, 0, 0)
    flipped = op.call(aten.flip.default, x, [axis])
    return cut(op, flipped, axis, size - 1 - begin, size - 1 - end, -step)


def expand(op: Op, x: Value, shape: Value) -> Value:
    """Broadcasting both ways: a size of 1 in `shape` keeps the one of x."""
    return broadcast(op, x, op.known_ints(shape, "the shape"))


def broadcast(op: Op, x: Value, shape: Sequence[int]) -> Value:
    wanted = list(torch.broadcast_shapes(shape_of(x), tuple(shape)))  # type: ignore[no-untyped-call]
    return x if wanted == list(shape_of(x)) else op.call(aten.expand.default, x, wanted)


def tile(op: Op, x: Value, repeats: Value) -> Value:
    for axis, count in enumerate(op.known_ints(repeats, "the repeats")):
        if shape_of(x)[axis] == 1:
            wanted = [*shape_of(x)[:axis], count, *shape_of(x)[axis + 1 :]]
            x = broadcast(op, x, wanted)
        elif count != 1:
            x = op.call(aten.cat.default, [x] * op.parts(count, "a repeat"), axis) if count else cut(op, x, axis, 0, 0)
    return x


def pad(op: Op, x: Value, pads: Value | None = None, value: Value | None = None, axes: Value | None = None) -> Value:
    """Inputs since opset 11, attributes before. Modes reflect, edge and wrap become gathers; a negative pad crops."""
    widths = op.integers("pads") if pads is None else op.known_ints(pads, "the pads")
    along = list(range(rank(x))) if axes is None else op.axes(axes, rank(x)) or []
    before, after = [0] * rank(x), [0] * rank(x)
    for place, axis in enumerate(along):
        before[axis], after[axis] = widths[place], widths[place + len(along)]
    mode = op.text("mode", "constant")
    if mode == "constant":
        filler = op.number("value") if value is None else op.known_number(value, "the padding value")
        first = next((axis for axis in range(rank(x)) if before[axis] or after[axis]), rank(x))
        return pad_last(op, x, before[first:], after[first:], filler if dtype_of(x).is_floating_point else int(filler))
    for axis, (b, a) in enumerate(zip(before, after, strict=True)):
        if b or a:
            x = op.gather(x, axis, _mirrored(op, shape_of(x)[axis], b, a, mode))
    return x


def _mirrored(op: Op, size: int, before: int, after: int, mode: str) -> torch.Tensor:
    places = torch.arange(-before, size + after)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    if mode != "reflect":
        op.refuse(f"the padding mode {mode} is not known")
    period = max(2 * (size - 1), 1)
    places = places % period
    return torch.minimum(places, period - places) if size > 1 else torch.zeros_like(places)


def depth_to_space(op: Op, x: Value) -> Value:
    """DCR takes the block's place from the outer part of the channels, CRD from the inner part."""
    batch, channels, height, width = shape_of(x)
    block = op.integer("blocksize")
    inner = channels // (block * block)
    if op.choice("mode", "DCR", "CRD") == "DCR":
        cells, order = [batch, block, block, inner, height, width], [0, 3, 4, 1, 5, 2]
    else:
        cells, order = [batch, inner, block, block, height, width], [0, 1, 4, 2, 5, 3]
    moved = op.permute(op.reshape(x, cells), order)
    return op.reshape(moved, [batch, inner, height * block, width * block])


def space_to_depth(op: Op, x: Value) -> Value:
    batch, channels, height, width = shape_of(x)
    block = op.integer("blocksize")
    cells = op.reshape(x, [batch, channels, height // block, block, width // block, block])
    depth_last = op.choice("mode", "DCR", "CRD") == "CRD"
    moved = op.permute(cells, [0, 1, 3, 5, 2, 4] if depth_last else [0, 3, 5, 1, 2, 4])
    return op.reshape(moved, [batch, channels * block * block, height // block, width // block])


def col2im(op: Op, x: Value, image: Value, block: Value) -> Value:
    """Overlapping blocks added into an image: torch's fold."""
    size, kernel = op.known_ints(image, "the image's shape"), op.known_ints(block, "the block's shape")
    ones, pads = [1] * len(size), op.integers("pads", [0] * (2 * len(size)))
    before, after = pads[: len(size)], pads[len(size) :]
    if len(size) != 2 or before != after:
        op.refuse("only images with two axes and equal padding on both sides are supported")
    dilations, strides = op.integers("dilations", ones), op.integers("strides", ones)
    return op.call(aten.col2im.default, x, size, kernel, dilations, before, strides)


def trilu(op: Op, x: Value, k: Value | None = None) -> Value:
    """The triangle, by a known 0/1 mask."""
    offset = 0 if k is None else op.known_ints(k, "the diagonal")[0]
    mask = torch.ones(shape_of(x)[-2:], dtype=dtype_of(x))
    triangle = torch.triu(mask, offset) if op.flag("upper", True) else torch.tril(mask, offset)
    return op.mul(x, triangle)


OPERATORS: Table = {
    ("", "Identity"): identity,
    ("", "Reshape"): reshape,
    ("", "Flatten"): flatten,
    ("", "Squeeze"): squeeze,
    ("", "Unsqueeze"): unsqueeze,
    ("", "Transpose"): transpose,
    ("", "Concat"): concat,
    ("", "Split"): split,
    ("", "Slice"): slice_,
    ("", "Expand"): expand,
    ("", "Tile"): tile,
    ("", "Pad"): pad,
    ("", "DepthToSpace"): depth_to_space,
    ("", "SpaceToDepth"): space_to_depth,
    ("", "Col2Im"): col2im,
    ("", "Trilu"): trilu,
}
