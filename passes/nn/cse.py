"""Equal operators on equal operands become one, and views that change nothing disappear. Exact.

    linear(x[:, 0:1]), norm(x[:, 0:1])   with two slices   ->   with one slice

The first of the equal nodes stays, with its layer and site.
"""

from __future__ import annotations

from torch import fx

from mpcc.rewrite import Pass
from mpcc.rewrite.cse import merge

NAME = "cse"


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    return merge(graph_module, NAME)


CSE = Pass(
    name=NAME,
    graph="nn",
    rewrite=rewrite,
    source="common subexpression elimination (e.g. pytorch: torch/fx/passes/dialect/common/cse_pass.py)",
    summary="Computes equal things once.",
    after=("fold_constants",),
)
