"""In a product of three, the weight meets the value that is there first. Exact up to rounding.

    mul(mul(c, r), w)  ->  mul(mul(c, w), r)          c [..., N, C], r [..., N, 1], w a weight

This is a norm whose scale no layer takes (a post-norm block, Swin v2): c are the centred values, opened early for
their squares; r is one over their deviation, ready rounds later. `c * w` is then local and is opened while r is being
computed, in place of `c * r`: the same bytes, one round less. Fires where nothing else reads `c * r`. Runs after
`divide_after_matmul`.
"""

from __future__ import annotations

from torch import fx

from mpcc.ir import mpc
from mpcc.ir.nn import shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.edit import Edit, Refusal

from ._constants import is_constant

NAME = "weights_first"


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    while swap_once(edit):  # the weight goes up through one factor after another
        pass
    return edit.finish()


def swap_once(edit: Edit) -> bool:
    swapped = False
    for node in list(edit.graph.nodes):
        found = late_weight(node)
        if isinstance(found, Refusal):
            edit.refuse(found)
            continue
        if found is None:
            continue
        inner, value, factor, weight = found
        early = edit.call(node, mpc.mul, value, weight, like=node)
        edit.replace(node, edit.call(node, mpc.mul, early, factor, like=inner))
        edit.drop(inner)
        swapped = True
    return swapped


def late_weight(node: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node, fx.Node] | Refusal | None:
    """(c * r, c, r, w) where `node` is c * r * w in any order, else None; a Refusal if c * r is needed itself."""
    if node.target is not mpc.mul or not node.users:
        return None
    for inner, weight in (node.args, node.args[::-1]):
        if not (isinstance(inner, fx.Node) and isinstance(weight, fx.Node) and inner.target is mpc.mul):
            continue
        if not is_constant(weight) or is_constant(inner):
            continue
        for value, factor in (inner.args, inner.args[::-1]):
            if not (isinstance(value, fx.Node) and isinstance(factor, fx.Node)) or is_constant(value):
                continue
            if shape_of(value) == shape_of(node) and shape_of(factor)[-1:] == (1,) and not is_constant(factor):
                return (inner, value, factor, weight) if len(inner.users) == 1 else Refusal(inner, "read by others too")
    return None


WEIGHTS_FIRST = Pass(
    name=NAME,
    graph="mpc",
    rewrite=rewrite,
    source="rounds are the depth of the graph: what is ready first is multiplied first",
    summary="Multiplies by a weight before a factor that is ready later, as in norms whose scale stays.",
)
