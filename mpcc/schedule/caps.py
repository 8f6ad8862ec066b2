"""How fine a scale each value may have, read backwards from what uses it.

Two factors of a matrix product are multiplied untruncated, so their scales and the result's magnitude share 62 bits; a
linear layer needs bits for its weight. Element-wise uses truncate for free at the opening and ask for nothing.
"""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from ..ir import mpc
from .values import LIMIT

HEADROOM = 0.25
"""Bits kept free above the calibrated bound (which is itself widened, see `bound_of`)."""
LEAST_INPUT = 14.0
"""Fraction bits that the input of a product with a weight keeps at least. Where what follows asks for fewer (three products
in a row without a truncation, as in attention without a softmax), the result is cut, not its factors."""
ELEMENTWISE = frozenset({mpc.mul, mpc.square, mpc.polynomial, mpc.less})
PRODUCTS = frozenset({mpc.matmul, mpc.linear, mpc.conv})


def bound_of(node: fx.Node, margin: float) -> float:
    """The magnitude that the program allows for: the calibrated extreme times the margin."""
    seen = node.meta["range"]
    return max(abs(float(seen.low)), abs(float(seen.high)), 2.0**-20) * margin


def rms_of(node: fx.Node) -> float:
    return max(float(node.meta["range"].rms), 2.0**-20)


def least_weight_bits(rms: float) -> float:
    """Fraction bits below which a weight of this root mean square loses more than 0.1 % of itself."""
    return 9.0 - math.log2(rms)


def caps(graph: fx.Graph, constants: dict[fx.Node, float], margin: float) -> dict[fx.Node, float]:
    """log2 of the largest scale of each node. `constants` maps nodes that only depend on parameters to their rms."""
    result: dict[fx.Node, float] = {}
    for node in reversed(graph.nodes):
        if node in constants or node.op == "output" or "range" not in node.meta:
            continue
        cap = natural(node, margin)
        for user in node.users:
            if user.op != "output":
                cap = min(cap, _asked(node, user, result, constants, margin))
        result[node] = cap
    return result


def natural(node: fx.Node, margin: float) -> float:
    """The cap that the ring itself sets."""
    return LIMIT - HEADROOM - math.log2(bound_of(node, margin))


def _asked(node: fx.Node, user: fx.Node, done: dict[fx.Node, float], constants: dict[fx.Node, float], margin: float) -> float:
    cap = done.get(user, float(LIMIT))
    if user.target is mpc.scale:
        factor = abs(float(_argument(user, 1)))
        return cap + math.log2(factor) if factor else cap
    if user.target in (mpc.matmul, mpc.linear, mpc.conv, mpc.mul):
        weights = [constants[n] for n in user.all_input_nodes[:2] if n in constants and n is not node]
        if weights:
            return max(cap - least_weight_bits(weights[0]), LEAST_INPUT)
        return _half(node, user, min(cap, natural(user, margin))) if user.target is mpc.matmul else float(LIMIT)
    if user.target in ELEMENTWISE or (user.target is mpc.select and user.args[0] is not node):
        return float(LIMIT)
    if user.target in (mpc.add, mpc.sub):  # a summand that is opened anyway is cut there, exactly and for free
        return float(LIMIT) if multiplied(node) and node.target is not mpc.scale else cap - _pending(node, user)
    return cap


def _half(node: fx.Node, user: fx.Node, total: float) -> float:
    """One operand's part of the bits of a matrix product, such that what lies before both keeps equally many."""
    losses = {n: _loss(n) for n in user.all_input_nodes}
    return (total - sum(losses.values())) / 2 + losses[node] if len(losses) == 2 else total / 2


def _loss(node: fx.Node) -> float:
    """Bits that centring costs between a value's producer and its use in a product."""
    while node.op == "call_function" and (node.target in mpc.VIEWS or node.target is mpc.scale) and node.all_input_nodes:
        node = node.all_input_nodes[0]
    if node.target in (mpc.add, mpc.sub) and node.all_input_nodes:
        return _pending(node.all_input_nodes[0], node)
    return 0.0


def _pending(node: fx.Node, user: fx.Node) -> float:
    """Bits that aligning with a down-scaled sum (a mean) will cost the other operand: x - mean(x) has scale S * count."""
    extra = 0.0
    for other in user.all_input_nodes:
        if other is node:
            continue
        source: Any = other
        while source.op == "call_function" and source.target in mpc.VIEWS and source.all_input_nodes:
            source = source.all_input_nodes[0]
        if source.op == "call_function" and source.target is mpc.scale:
            factor = abs(float(_argument(source, 1)))
            extra = max(extra, -math.log2(factor) if 0 < factor < 1 else 0.0)
    return extra


def _argument(node: fx.Node, position: int) -> Any:
    return node.args[position] if position < len(node.args) else next(iter(node.kwargs.values()))


def multiplied(node: fx.Node) -> bool:
    """Whether an element-wise use opens the value as it is, so that truncating it exactly costs no further opening."""
    for user in node.users:
        if user.target in ELEMENTWISE or (user.target is mpc.select and user.args[0] is not node):
            return True
        if user.target is mpc.scale and multiplied(user):
            return True
    return False


def multiplied_whole(node: fx.Node) -> bool:
    """Whether a matrix product, linear layer or convolution uses the value untruncated."""
    for user in node.users:
        if user.target in PRODUCTS:
            return True
        if (user.target is mpc.scale or user.target in mpc.VIEWS) and multiplied_whole(user):
            return True
    return False
