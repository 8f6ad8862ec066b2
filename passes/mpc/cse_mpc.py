"""Equal primitives on equal operands become one, so that a value is opened once. Exact.

    mul(exp(x), y), mul(exp(x), z)   with two expansions of exp   ->   with one

Approximations are expanded site by site; what two of them compute alike (the centred input of a norm, its square)
meets here.
"""

from __future__ import annotations

from torch import fx

from mpcc.rewrite import Pass
from mpcc.rewrite.cse import merge

NAME = "cse_mpc"


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    return merge(graph_module, NAME)


CSE_MPC = Pass(
    name=NAME,
    graph="mpc",
    rewrite=rewrite,
    source="common subexpression elimination, as `cse`",
    summary="Computes equal things once, so that each value is opened once.",
    after=("divide_after_matmul", "fuse_linear_mpc", "reassociate_attention"),
)
