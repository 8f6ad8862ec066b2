"""A factor per row moves behind all the layers that read it: a round less, more bytes. Exact up to rounding.

    y = mul(c, r); linear(y, Wq, bq), linear(y, Wk, bk) ...   ->  add(mul(linear(c, Wq), r), bq), ...     r [..., 1]

This is how a norm ends: c are the centred values, r one over their deviation. The layers meet c while r is still
being computed, so y is not opened, but each layer's result is opened once more. That is `divide_after_matmul` without
its bound on size: worth it where a round costs more than those bytes (a slow link that is not thin), so a price
decides, and the pass runs only when asked for, in place of `divide_after_matmul`. Level `bounded`: the function stays,
but the layers now give values that were not normalised, whose range only calibration knows.
"""

from __future__ import annotations

from torch import fx

from mpcc.rewrite import Pass
from mpcc.rewrite.edit import Edit

from .divide_after_matmul import divide_once

NAME = "divide_late"


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    while divide_once(edit, allowed=lambda product, readers: None):
        pass
    return edit.finish()


DIVIDE_LATE = Pass(
    name=NAME,
    graph="mpc",
    rewrite=rewrite,
    source="as `divide_after_matmul`, rounds before bytes",
    summary="Multiplies by a factor per row behind every product that reads it: fewer rounds, more bytes.",
    level="bounded",
)
