"""The discrete Fourier transform is linear: two constant matrices on each side, real and imaginary part apart."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from ..builder import Builder
from ..values import Constant, Decline, Rules, Value, called, shape

aten = torch.ops.aten


def view_as_real(b: Builder, x: Value) -> Any:
    """view_as_real(fft2(x)), x [.., h, w] -> [.., h, w, 2]; the transform itself stays unused."""
    if not called(x, aten.fft_fft2.default) or len(x.args) > 1 or x.kwargs:
        raise Decline("complex numbers other than a plain fft2")
    source = x.args[0]
    assert isinstance(source, fx.Node)
    high, wide = shape(source)[-2:]
    (cos_h, sin_h), (cos_w, sin_w) = _waves(high), _waves(wide)

    def both(left: torch.Tensor, right: torch.Tensor) -> Any:
        return b.matmul(Constant(left), b.matmul(source, Constant(right)))

    real = b.sub(both(cos_h, cos_w), both(sin_h, sin_w))
    imaginary = b.do(aten.neg.default, b.add(both(sin_h, cos_w), both(cos_h, sin_w)))
    return b.do(aten.stack.default, [real, imaginary], -1)


def _waves(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    places = torch.arange(size, dtype=torch.float64)
    angles = 2 * math.pi / size * (places[:, None] * places % size)
    return angles.cos().float(), angles.sin().float()


RULES: Rules = {aten.view_as_real.default: view_as_real}
