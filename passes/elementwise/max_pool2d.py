"""Max pooling by a tree of maxima over the kernel's strided slices. Exact, 3 rounds a level: 3 ceil(log2(kernel size)).

Padding repeats the border (up to half the kernel, as torch asks): a repeated value is in the window already, so the
maximum is that of the unpadded window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpcc.approximate import Approximation
from mpcc.approximate.blocks import pair, repeat_border
from mpcc.approximate.expand import windows
from mpcc.errors import UnsupportedOperator
from mpcc.ir import mpc


def max_pool2d(
    x: Any,
    *,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Any:
    """x [..., height, width]; dilation and ceil_mode have no secure form here."""
    if ceil_mode or pair(dilation) != (1, 1):
        raise UnsupportedOperator("max_pool2d with ceil_mode or dilation has no secure form")
    kernel, around = pair(kernel_size), pair(padding)
    for dim, count in zip((len(x.shape) - 2, len(x.shape) - 1), around, strict=True):
        x = repeat_border(x, dim, count)
    values = windows(x, kernel, pair(stride) if stride else kernel)
    while len(values) > 1:
        rest = values[len(values) // 2 * 2 :]
        values = [mpc.maximum(a, b) for a, b in zip(values[0:-1:2], values[1::2], strict=False)] + rest
    return values[0]


MAX_POOL2D = Approximation(
    name="max_pool2d",
    operator="max_pool2d",
    level="exact",
    source="definition",
    function=max_pool2d,
    error=lambda options: 0.0,
    summary="a tree of maxima over the window",
)
