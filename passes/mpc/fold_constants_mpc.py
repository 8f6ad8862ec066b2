"""What depends on weights only is computed at compile time, also after expansion. Exact.

    mul(x, add(mul(w, g), b))  ->  mul(x, w_add)

Views and `scale` of a weight are free and stay: a factor folded into a weight would cost it bits of its fixed point.
"""

from __future__ import annotations

from torch import fx

from mpcc.ir import mpc
from mpcc.rewrite import Pass
from mpcc.rewrite.constants import fold

NAME = "fold_constants_mpc"
FREE = {*mpc.VIEWS, mpc.scale}


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    return fold(graph_module, NAME, lambda node: node.target not in FREE)


FOLD_CONSTANTS_MPC = Pass(
    name=NAME,
    graph="mpc",
    rewrite=rewrite,
    source="constant folding, as `fold_constants`",
    summary="Computes at compile time what depends on weights only.",
    after=("cse_mpc",),
)
