"""Operators that are linear in the secret value, with everything else known: products with known matrices.

DFT, STFT, GridSample at known points, MaxUnpool at known places. Source: onnx/onnx docs/Operators.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..op import Op, Table, rank, shape_of
from ..recorder import Value, aten

# Elements of a matrix that is made here, a quarter of a GiB: a map between images of 90 x 90.
MOST_ELEMENTS = 1 << 26


def dft(op: Op, x: Value, length: Value | None = None, axis: Value | None = None) -> Value:
    """x [.., signal, .., 1 (real) or 2 (real, imaginary)] -> [.., frequencies, .., 2]."""
    dims = rank(x)
    along = op.integer("axis", 1) if axis is None else op.known_ints(axis, "the axis")[0]
    if axis is None and op.version >= 20:
        along = -2
    along = op.front(along, dims)
    size = shape_of(x)[along] if length is None else op.known_ints(length, "the length")[0]
    inverse, half = op.flag("inverse"), op.flag("onesided")
    if inverse and half:
        op.refuse("an inverse transform of half a spectrum is not supported")
    if along == dims - 1:
        op.refuse("the axis is that of real and imaginary part")
    order = [*(i for i in range(dims) if i != along), along]  # [.., 1 or 2, signal]
    made = _transformed(op, op.permute(x, order), size, inverse, half)
    return op.permute(made, [order.index(i) for i in range(dims)])


def _transformed(op: Op, x: Value, size: int, inverse: bool, half: bool) -> Value:
    """x [.., 1 or 2, signal] -> [.., 2, frequencies]."""
    taken = min(size, shape_of(x)[-1])
    if taken < shape_of(x)[-1]:
        x = op.call(aten.slice.Tensor, x, rank(x) - 1, 0, taken)
    op.short(range(size), "the transform")
    rows, columns = torch.arange(taken, dtype=torch.float64)[:, None], torch.arange(size // 2 + 1 if half else size)
    angles = 2 * math.pi / size * (rows * columns % size)
    scale = 1 / size if inverse else 1.0
    cos, sin = angles.cos().float() * scale, angles.sin().float() * scale * (-1 if inverse else 1)
    parts = [op.call(aten.select.int, x, rank(x) - 2, i) for i in range(shape_of(x)[-2])]
    real, imaginary = (op.call(aten.matmul.default, parts[0], matrix) for matrix in (cos, -sin))
    if len(parts) > 1:
        real = op.add(real, op.call(aten.matmul.default, parts[1], sin))
        imaginary = op.add(imaginary, op.call(aten.matmul.default, parts[1], cos))
    return op.call(aten.stack.default, [real, imaginary], rank(real) - 1)


def stft(op: Op, x: Value, step: Value, window: Value | None = None, length: Value | None = None) -> Value:
    """x [batch, signal, 1 or 2] -> [batch, frames, frequencies, 2]."""
    weights = None if window is None else op.known(window, "the window").float()
    size = op.known_ints(length, "the length of a frame")[0] if length is not None else None
    if size is None:
        size = shape_of(x)[1] if weights is None else len(weights)
    hop = op.known_ints(step, "the step between frames")[0]
    if hop < 1 or size < 1 or (weights is not None and len(weights) != size):
        op.refuse("frames, their step and the window do not fit each other")
    frames = op.parts((shape_of(x)[1] - size) // hop + 1, "the number of frames")
    places = (torch.arange(frames)[:, None] * hop + torch.arange(size)).reshape(-1)
    cut = op.reshape(op.gather(x, 1, places), [shape_of(x)[0], frames, size, shape_of(x)[2]])
    cut = op.permute(cut, [0, 1, 3, 2])
    cut = cut if weights is None else op.mul(cut, weights)
    return op.permute(_transformed(op, cut, size, False, op.flag("onesided", True)), [0, 1, 3, 2])


def grid_sample(op: Op, x: Value, grid: Value) -> Value:
    """x [batch, channels, *size] at known points [batch, *new size, 2 or 3]: what torch makes of the unit vectors."""
    points = op.known(grid, "where it samples").float()
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(name := op.text("mode", "linear"), name)
    padding, corners = op.choice("padding_mode", "zeros", "border", "reflection"), op.flag("align_corners")
    batch, channels, *size = shape_of(x)
    new = list(points.shape[1:-1])
    count, wanted = math.prod(size), math.prod(new)
    if batch * count * wanted > MOST_ELEMENTS:
        op.refuse(f"a sampling of {count:,} by {wanted:,} points is a matrix of more than {MOST_ELEMENTS:,} elements")
    units = torch.eye(count).reshape(1, count, *size)
    sample = torch.nn.functional.grid_sample
    matrices = [sample(units, one[None], mode, padding, corners).reshape(count, wanted) for one in points]
    made = op.call(aten.matmul.default, op.reshape(x, [batch, channels, count]), torch.stack(matrices))
    return op.reshape(made, [batch, channels, *new])


def max_unpool(op: Op, x: Value, places: Value, output_shape: Value | None = None) -> Value:
    """x written at known flat places of zeros; a place counts in what the pool would have seen without an output shape."""
    kernel = op.integers("kernel_shape")
    strides, pads = op.integers("strides") or [1] * len(kernel), op.integers("pads") or [0] * (2 * len(kernel))
    sizes = shape_of(x)[2:]
    seen = [
        (size - 1) * stride + k - pads[i] - pads[i + len(kernel)]
        for i, (size, stride, k) in enumerate(zip(sizes, strides, kernel, strict=True))
    ]
    shape = [*shape_of(x)[:2], *seen]
    wanted = shape if output_shape is None else op.known_ints(output_shape, "the output shape")
    written = _elsewhere(op.known(places, "the places").reshape(-1), shape, wanted)
    source = torch.full((math.prod(wanted),), math.prod(shape_of(x)))
    source[written] = torch.arange(len(written))
    flat = op.call(aten.cat.default, [op.reshape(x, [math.prod(shape_of(x))]), torch.zeros(1)], 0)
    return op.reshape(op.gather(flat, 0, source), wanted)


def _elsewhere(places: torch.Tensor, shape: Sequence[int], wanted: Sequence[int]) -> torch.Tensor:
    """Flat places of a tensor of `shape`, as places of one of `wanted`."""
    if list(shape) == list(wanted):
        return places
    columns = torch.unravel_index(places, tuple(shape))
    flat = torch.zeros_like(places)
    for column, size in zip(columns, wanted, strict=True):
        flat = flat * size + column
    return flat


OPERATORS: Table = {
    ("", "DFT"): dft,
    ("", "STFT"): stft,
    ("", "GridSample"): grid_sample,
    ("", "MaxUnpool"): max_unpool,
}
