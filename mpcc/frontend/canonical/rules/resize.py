"""Resizing to a constant size is linear and separable: one constant matrix on each side, or a repetition of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..builder import Builder
from ..values import Constant, Rules, Value, shape
from .pooling import separable

aten = torch.ops.aten


def _matrix(target: Any, old: int, sizes: Any, options: tuple[Any, ...], factors: Any, vertical: bool) -> torch.Tensor:
    """The matrix [new, old] of a 2-D resize along one axis: what it makes of the unit vectors."""
    line = torch.eye(old, dtype=torch.float64)[:, None]
    image = line[..., None] if vertical else line[:, :, None]
    image = image.expand(-1, -1, -1, 2) if vertical else image.expand(-1, -1, 2, -1)
    new = None if sizes is None else ([sizes[0], 2] if vertical else [2, sizes[1]])
    scale = None if factors is None else ([factors[0], 1.0] if vertical else [1.0, factors[1]])
    made = target(image.contiguous(), new, *options, scale)
    column: torch.Tensor = made[:, 0, :, 0] if vertical else made[:, 0, 0, :]
    return column.T.float()


def smooth(target: Any) -> Any:
    """The rule of a bilinear or bicubic resize, `target` its overload with optional sizes and factors."""

    def rule(b: Builder, x: Value, sizes: Any, align_corners: bool, *rest: Any) -> Any:
        factors = rest[0] if len(rest) == 1 else (list(rest) if any(rest) else None)
        if factors is not None and sizes is not None:
            return _exact(b, target.overloadpacket.default, x, sizes, align_corners, factors)
        h, w = shape(x)[-2:]
        down = _matrix(target, h, sizes, (align_corners,), factors, True)
        across = _matrix(target, w, sizes, (align_corners,), factors, False)
        return separable(b, x, down, across)

    return rule


def _exact(b: Builder, target: Any, x: Value, sizes: Sequence[int], align_corners: bool, factors: Sequence[Any]) -> Any:
    """Sizes and factors both given (after a resize by a factor was lowered)."""
    h, w = shape(x)[-2:]
    tall = torch.eye(h, dtype=torch.float64)[:, None, :, None].expand(-1, -1, -1, 2).contiguous()
    wide = torch.eye(w, dtype=torch.float64)[:, None, None, :].expand(-1, -1, 2, -1).contiguous()
    down = target(tall, [sizes[0], 2], align_corners, factors[0], None)[:, 0, :, 0].T.float()
    across = target(wide, [2, sizes[1]], align_corners, None, factors[1])[:, 0, 0, :].T.float()
    return separable(b, x, down, across)


def nearest(dims: int) -> Any:
    """Nearest pixels: repetition where the size is a multiple, else an index along each axis."""

    def rule(b: Builder, x: Value, sizes: Any, *rest: Any) -> Any:
        factors: Any = (
            rest[0] if len(rest) == 1 and not isinstance(rest[0], float) else (list(rest) if any(rest) else None)
        )
        for place in range(dims):
            dim = len(shape(x)) - dims + place
            old = shape(x)[dim]
            new = sizes[place] if sizes is not None else int(old * factors[place])
            scale = old / new if factors is None else 1 / factors[place]
            places = (torch.arange(new, dtype=torch.float64) * scale).floor().long().clamp(max=old - 1)
            x = _repeated(b, x, dim, new // old) if new % old == 0 else b.gather(x, dim, places)
        return x

    return rule


def _repeated(b: Builder, x: Value, dim: int, times: int) -> Any:
    return b.do(aten.repeat_interleave.self_int, x, times, dim)


def linear1d(b: Builder, x: Value, sizes: Any, align_corners: bool, *rest: Any) -> Any:
    line = torch.eye(shape(x)[-1], dtype=torch.float64).unsqueeze(1)
    factor = rest[0][0] if rest and isinstance(rest[0], (list, tuple)) else None
    new = None if sizes is None else sizes[0]
    made = torch.nn.functional.interpolate(line, new, factor, "linear", align_corners)
    return b.matmul(x, Constant(made.squeeze(1).float()))


RULES: Rules = {
    aten.upsample_linear1d.vec: linear1d,
    aten.upsample_bilinear2d.vec: smooth(aten.upsample_bilinear2d.vec),
    aten.upsample_bicubic2d.vec: smooth(aten.upsample_bicubic2d.vec),
    aten._upsample_bilinear2d_aa.vec: smooth(aten._upsample_bilinear2d_aa.vec),
    aten._upsample_bicubic2d_aa.vec: smooth(aten._upsample_bicubic2d_aa.vec),
    aten.upsample_bilinear2d.default: smooth(aten.upsample_bilinear2d.vec),
    aten.upsample_bicubic2d.default: smooth(aten.upsample_bicubic2d.vec),
    aten.upsample_nearest1d.vec: nearest(1),
    aten.upsample_nearest2d.vec: nearest(2),
    aten.upsample_nearest3d.vec: nearest(3),
    aten.upsample_nearest1d.default: nearest(1),
    aten.upsample_nearest2d.default: nearest(2),
}
