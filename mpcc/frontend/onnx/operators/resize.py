"""Resize and Upsample: along each axis a known matrix of weights (or, for nearest, a gather). Free but for the product.

Formulas: the definition of Resize, onnx/onnx docs/Operators.md, and its reference, onnx/reference/ops/op_resize.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..op import Op, Table, rank, shape_of
from ..recorder import Value, aten


def resize(
    op: Op, x: Value, roi: Value | None = None, scales: Value | None = None, sizes: Value | None = None
) -> Value:
    """Inputs are (x, scales) in opset 10, where coordinates are asymmetric, and (x, roi, scales, sizes) since."""
    old = op.version < 11
    factors, wanted = _target(op, x, roi if old else scales, sizes)
    mode = op.choice("mode", "nearest", "linear", "cubic")
    coordinates = op.text("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    for axis, (factor, count) in enumerate(zip(factors, wanted, strict=True)):
        size = shape_of(x)[axis]
        if count == size and factor == 1.0:
            continue
        places = _places(op, coordinates, size, count, factor)
        if mode == "nearest":
            x = op.gather(x, axis, _nearest(op, places, size, "floor" if old else "round_prefer_floor"))
        else:
            x = _along(op, x, axis, _weights(op, mode, places, size, factor))
    return x


def upsample(op: Op, x: Value, scales: Value | None = None) -> Value:
    """Resize of opset 10 under its first name; the scales are an attribute before opset 9."""
    given = torch.tensor(op.numbers("scales")) if scales is None else scales
    return resize(op, x, given)


def _target(op: Op, x: Value, scales: Value | None, sizes: Value | None) -> tuple[list[float], list[int]]:
    """The factor and the new size of every axis. An empty tensor stands for an input that is left out."""
    shape = shape_of(x)
    axes = [op.front(axis, len(shape)) for axis in op.integers("axes")] if op.has("axes") else list(range(len(shape)))
    factors, wanted = [1.0] * len(shape), list(shape)
    if sizes is not None and 0 not in shape_of(sizes):
        given = op.known_ints(sizes, "the sizes")
        each = [want / shape[axis] for axis, want in zip(axes, given, strict=True)]
        policy = op.choice("keep_aspect_ratio_policy", "stretch", "not_larger", "not_smaller")
        if policy != "stretch":
            common = min(each) if policy == "not_larger" else max(each)
            each = [common] * len(axes)
            given = [math.floor(common * shape[axis] + 0.5) for axis in axes]
        for axis, want, factor in zip(axes, given, each, strict=True):
            wanted[axis], factors[axis] = want, factor
        return factors, wanted
    if scales is None or 0 in shape_of(scales):
        op.refuse("neither scales nor sizes are given")
    for axis, factor in zip(axes, op.known(scales, "the scales").reshape(-1).tolist(), strict=True):
        factors[axis], wanted[axis] = factor, math.floor(shape[axis] * factor)
    return factors, wanted


def _places(op: Op, mode: str, size: int, count: int, factor: float) -> Tensor:
    """Where each output element lies among the inputs."""
    at = torch.arange(count, dtype=torch.float64)
    if mode == "asymmetric":
        return at / factor
    if mode == "align_corners":
        last = size * factor - 1  # not rounded down: it need not be whole where scales are given
        return at * (size - 1) / last if last > 0 else at
    if mode == "pytorch_half_pixel" and count == 1:
        return torch.zeros_like(at)
    places = (at + 0.5) / factor - 0.5
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return places
    if mode != "half_pixel_symmetric":
        op.refuse(f"the coordinate transformation mode {mode} is not supported")
    return places + size / 2 * (1 - count / (factor * size))


def _nearest(op: Op, places: Tensor, size: int, default: str) -> Tensor:
    rounding: dict[str, Callable[[Tensor], Tensor]] = {
        "round_prefer_floor": lambda at: torch.ceil(at - 0.5),
        "round_prefer_ceil": lambda at: torch.floor(at + 0.5),
        "floor": torch.floor,
        "ceil": torch.ceil,
    }
    return rounding[op.text("nearest_mode", default)](places).long().clamp(0, size - 1)


def _weights(op: Op, mode: str, places: Tensor, size: int, factor: float) -> Tensor:
    """[output, input]: how much of each input an output takes."""
    squeeze = factor if op.flag("antialias") and factor < 1 else 1.0
    reach = math.ceil((1 if mode == "linear" else 2) / squeeze)
    taps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    inputs = torch.floor(places)[:, None] + taps[None, :]
    distance = ((inputs - places[:, None]) * squeeze).abs()
    weight = (1 - distance).clamp(min=0) if mode == "linear" else _cubic(distance, op.number("cubic_coeff_a", -0.75))
    if op.flag("exclude_outside"):
        weight = torch.where((inputs < 0) | (inputs > size - 1), 0.0, weight)
    weight = weight / weight.sum(1, keepdim=True)
    rows = torch.zeros(len(places), size, dtype=torch.float64)
    rows.scatter_add_(1, inputs.long().clamp(0, size - 1), weight)
    return rows.float()


def _cubic(distance: Tensor, a: float) -> Tensor:
    """Keys' kernel with the coefficient a"""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))


def _along(op: Op, x: Value, axis: int, weights: Tensor) -> Value:
    last = [*(i for i in range(rank(x)) if i != axis), axis]
    moved = op.call(aten.matmul.default, op.permute(x, last), weights.t().contiguous())
    return op.permute(moved, [last.index(i) for i in range(rank(x))])


OPERATORS: Table = {("", "Resize"): resize, ("", "Upsample"): upsample}
