"""Attention without a softmax: the keys meet the values first where that opens less. Exact up to rounding.

    matmul(scale(matmul(q, kT)), v)  ->  scale(matmul(q, matmul(kT, v)))      q [..., M, D], v [..., N, E]

The scores [M, N] would be opened to be multiplied by v; now kT v [D, E] is opened. Only scaling attention (a
structural choice of the plan) leaves nothing but scales between the products. Fires where D E < M N and the
number of multiplications does not grow.
"""

from __future__ import annotations

import math

from torch import fx

from mpcc.ir import mpc
from mpcc.ir.nn import shape_of
from mpcc.rewrite import Pass
from mpcc.rewrite.edit import Edit, Refusal
from mpcc.rewrite.match import Match, Pattern

NAME = "reassociate_attention"
LINEAR_ATTENTION = Pattern(lambda q, k, v: mpc.matmul(mpc.matmul(q, k), v), skip={mpc.scale})


def rewrite(graph_module: fx.GraphModule) -> list[str]:
    edit = Edit(graph_module, NAME)
    for node in list(graph_module.graph.nodes):
        if node.target is not mpc.matmul:
            continue
        found = LINEAR_ATTENTION.match(node)
        refusal = found if isinstance(found, Refusal) else more_expensive(found)
        if isinstance(found, Refusal) or refusal is not None:
            edit.refuse(refusal)  # type: ignore[arg-type]
            continue
        reassociate(edit, node, found)
    return edit.finish()


def more_expensive(found: Match) -> Refusal | None:
    """Why the other order opens or multiplies more; None if it does not."""
    outer, scores = found.inner
    shapes = [shape_of(found[name]) for name in "qkv"]
    if min(map(len, shapes)) < 2 or len({s[:-2] for s in shapes}) > 1:
        return Refusal(outer, "vectors or broadcasting among query, key and value")
    (*_, m, d), (*_, n), (*_, e) = shapes
    if d * e >= m * n:
        return Refusal(scores, f"its {m} x {n} values a head are no more than the {d} x {e} of keys by values")
    now, then = m * d * n + m * n * e, d * n * e + m * d * e
    if then > now:
        return Refusal(outer, f"the other order multiplies {then} times a head instead of {now}")
    return None


def reassociate(edit: Edit, node: fx.Node, found: Match) -> None:
    inner = edit.call(node, mpc.matmul, found["k"], found["v"], like=found.inner[1])
    factor = math.prod(step.args[1] for step in found.skipped)  # type: ignore[misc]
    result = edit.call(node, mpc.matmul, found["q"], inner, like=node)
    if found.skipped:
        result = edit.call(node, mpc.scale, result, factor, like=found.skipped[0])
    edit.replace(node, result)


REASSOCIATE_ATTENTION = Pass(
    name=NAME,
    graph="mpc",
    rewrite=rewrite,
    source="MPCViT (arXiv 2211.13955): scaling attention; Shen et al., Efficient Attention (arXiv 1812.01243)",
    summary="Computes q (k^T v) instead of (q k^T) v in attention without softmax, where that is cheaper.",
    after=("separate_parts",),
)
