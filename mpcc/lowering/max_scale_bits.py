"""How fine a scale each value may have, read backwards from what uses it.

Two factors of a matrix product are multiplied untruncated, so their scales and the result's magnitude share 62 bits; a
linear layer needs bits for its weight. Element-wise uses truncate for free at the opening and ask for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping
from typing import Any

from torch import fx

from mpcc.ir import mpc
from mpcc.ir.nn import size_of

from .settings import Settings
from .values import LEAST_SIZE, LIMIT

LEAST_INPUT = 13.0
"""Fraction bits of a linear layer's input below which its rounding shows: one less than an element-wise operand's 14, as the
errors of a row's many inputs average out."""
LEAST_WEIGHT = 9.0
"""Significant bits of a weight, at its root mean square, below which its rounding shows: half a unit at most, 2^-9 / sqrt(12) =
0.06 % of the weight on average, averaged out further over a row."""
LEAST_FOR_PRODUCT = 2 * (LEAST_INPUT + LEAST_WEIGHT + 2.0)
"""Fraction bits of a product of two linear layers' results: what each layer needs, with weights of rms 1/4 as trained ones of
width 16 and more have at most."""
HEADROOM = 0.25
"""Bits kept free above the calibrated bound (which is itself widened, see `bound_of`): what the roundings of a sum's terms, at
most 2^0.25 - 1 = 19 % of the bound, may add."""
SEEN_MARGIN = 1.05
"""How far above the values that calibration saw in float those of fixed point may lie: a program that is off by more than 5 % is
refused (`Settings.tolerance`)."""
EARLY_BITS = 14.0
"""Fraction bits of an operand that is cut early: those of an element-wise operand, whose rounding is of the same kind."""
LIFT_ROOM = 2.0
"""Bits that a product of operands that were cut for good needs besides: a lift wants 3 above the magnitude, of which LIMIT
leaves 2, and the magnitude is rounded up."""
ELEMENTWISE = frozenset({mpc.mul, mpc.square, mpc.polynomial, mpc.less})
PRODUCTS = frozenset({mpc.matmul, mpc.linear, mpc.conv})


def bound_of(node: fx.Node, margin: float) -> float:
    """The magnitude that the program allows for: the calibrated extreme times the margin."""
    seen = node.meta["range"]
    return max(abs(float(seen.low)), abs(float(seen.high)), LEAST_SIZE) * margin


def rms_of(node: fx.Node) -> float:
    return max(float(node.meta["range"].rms), LEAST_SIZE)


def least_weight_bits(rms: float) -> float:
    """Fraction bits of a weight of this root mean square below which its rounding shows."""
    return LEAST_WEIGHT - math.log2(rms)


def max_scale_bits(
    graph: fx.Graph,
    constants: dict[fx.Node, float],
    margin: float,
    local_budget: float = 0.0,
    narrow: Mapping[fx.Node, float] | None = None,
    least_bits: float = Settings.least_bits,
) -> dict[fx.Node, float]:
    """log2 of the largest scale of each node that has a range. `constants`: the rms of those that depend on parameters only.

    `narrow`: values that are cut for good to so many bits before a product uses them; they are limited before that cut.
    `least_bits`: of a value of size 1, below which no limit goes.
    """
    result: dict[fx.Node, float] = {}
    for node in reversed(graph.nodes):
        if node in constants or node.op == "output" or "range" not in node.meta:
            continue
        cap = ring_bits(node, margin)
        for user in node.users:
            if user.op != "output":
                cap = min(cap, _asked(node, user, result, constants, margin, local_budget, narrow or {}))
        result[node] = max(cap, min(ring_bits(node, margin), floor_bits(rms_of(node), least_bits)))
    return result


def floor_bits(rms: float, least_bits: float) -> float:
    """Fraction bits below which no limit of a value of this root mean square goes: more where it is small."""
    return least_bits + max(0.0, -math.log2(rms))


def ring_bits(node: fx.Node, margin: float) -> float:
    """Fraction bits at which the calibrated bound, times `margin`, still fits the ring."""
    return LIMIT - HEADROOM - math.log2(bound_of(node, margin))


def _asked(
    node: fx.Node,
    user: fx.Node,
    done: dict[fx.Node, float],
    constants: dict[fx.Node, float],
    margin: float,
    local: float,
    narrow: Mapping[fx.Node, float],
) -> float:
    cap = done.get(user, float(LIMIT))
    if user.target is mpc.scale:
        factor = abs(float(_argument(user, 1)))
        return cap + math.log2(factor) if factor else cap
    if user.target in (mpc.matmul, mpc.linear, mpc.conv, mpc.mul):
        weights = [constants[n] for n in user.all_input_nodes[:2] if n in constants and n is not node]
        if weights:
            return result_bits(user, weights[0], cap, local) - least_weight_bits(weights[0])
        if user.target is not mpc.matmul:
            return float(LIMIT)
        total, early = min(cap, ring_bits(user, margin)), early_operand(user, constants)
        if early is None:
            others = [_narrow_bits(n, narrow) for n in user.all_input_nodes if n is not node]
            if others and None not in (*others, _narrow_bits(node, narrow)):
                return total - LIFT_ROOM - sum(bits for bits in others if bits is not None)
            return _balanced(node, user, total)
        rest = total - early_bits(rms_of(early))
        few = rest < LEAST_FOR_PRODUCT and not _cut_before(user, early, constants, local)
        return float(LIMIT) if node is early or few else rest
    if user.target is mpc.less:
        return threshold_bits(user)
    if user.target is mpc.curve:
        return float(LIMIT)
    if user.target in ELEMENTWISE or (user.target is mpc.select and user.args[0] is not node):
        return float(LIMIT)
    if user.target in (mpc.add, mpc.sub):  # a summand that is opened anyway is cut there, exactly and for free
        free = opened_elementwise(node) and (node.target is not mpc.scale or _is_relu(node, user))
        return float(LIMIT) if free else cap - _alignment_bits(node, user)
    return cap


def fitting_bits(node: fx.Node, margin: float) -> float:
    """The bits at which a value fits the ring, and with it the thresholds that it is compared with."""
    return min([ring_bits(node, margin), *(threshold_bits(user) for user in node.users if user.target is mpc.less)])


def threshold_bits(comparison: fx.Node) -> float:
    """The cap at which the threshold of a comparison still fits the ring: it may lie far above a small value."""
    return LIMIT - 1.0 - math.log2(max(abs(float(_argument(comparison, 1))), 1.0))


def early_operand(product: fx.Node, constants: Container[fx.Node]) -> fx.Node | None:
    """The operand of a matrix product that is ready a round before the other, which is such a product itself.

    In q (k^T v) without a truncation between, all three would share the bits. But q waits while k^T v is computed:
    it is cut meanwhile, exactly and without a further round, and leaves the bits to the others. Where that leaves too
    few, since a linear layer follows, each party cuts its share of k and v, where that is safe; else k^T v is cut through
    its opening, which is a round more.
    """
    operands = product.all_input_nodes
    late = [n for n in operands if _is_product(n, constants)]
    return next(n for n in operands if n is not late[0]) if len(operands) == 2 and len(late) == 1 else None


def cut_locally(layer: fx.Node, weight_rms: float, local_budget: float) -> bool:
    """Whether the result of a linear layer, at the bits that it needs at least, may be cut by each party alone."""
    bits = LEAST_INPUT + least_weight_bits(weight_rms)
    size: int = size_of(layer)
    return bool(size * (rms_of(layer) * 2.0 ** (bits + 1) + 1) * 2.0**-63 <= local_budget)


def result_bits(product: fx.Node, weight_rms: float, cap: float, local_budget: float) -> float:
    """The bits of a product with a weight before it is cut to its cap: more than that, where a local cut is safe."""
    if product.target is not mpc.linear or not _in_chain(product) or not cut_locally(product, weight_rms, local_budget):
        return cap
    return max(cap, LEAST_INPUT + least_weight_bits(weight_rms))


def _in_chain(layer: fx.Node) -> bool:
    """Whether a layer's result is a factor of a matrix product that is a factor of another."""
    products = [user for user in _readers(layer) if user.target is mpc.matmul]
    return any(reader.target is mpc.matmul for product in products for reader in _readers(product))


def _readers(node: fx.Node) -> Iterator[fx.Node]:
    """What reads a value, scales and views passed over."""
    for user in node.users:
        if user.op == "call_function" and (user.target in mpc.VIEWS or user.target is mpc.scale):
            yield from _readers(user)
        else:
            yield user


def _cut_before(product: fx.Node, early: fx.Node, constants: Mapping[fx.Node, float], local_budget: float) -> bool:
    """Whether both factors of the late operand are results of layers that may be cut locally.

    Not those of a split site: its other parts take longer, so that cutting the late operand itself costs no round.
    """
    late = next(n for n in product.all_input_nodes if n is not early)
    factors = source_of(late).all_input_nodes
    if any("part" in n.meta for n in factors):
        return False
    layers = [source_of(n) for n in factors]
    weights = [next((n for n in layer.all_input_nodes if n in constants), None) for layer in layers]
    return all(
        layer.target is mpc.linear and weight is not None and cut_locally(layer, constants[weight], local_budget)
        for layer, weight in zip(layers, weights, strict=True)
    )


def early_bits(rms: float) -> float:
    """Fraction bits that an operand keeps when it is cut early."""
    return EARLY_BITS + max(0.0, -math.log2(rms))


def _is_product(node: fx.Node, constants: Container[fx.Node]) -> bool:
    """Whether a value is a matrix product of two secret ones, scaled or viewed."""
    node = source_of(node)
    return node.target is mpc.matmul and not any(n in constants for n in node.all_input_nodes)


def source_of(node: fx.Node) -> fx.Node:
    """What a value is scaled or viewed from."""
    while node.op == "call_function" and (node.target in mpc.VIEWS or node.target is mpc.scale) and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return node


def _is_relu(x: fx.Node, user: fx.Node) -> bool:
    """Whether `user` is x - [x < t] x, so that x has an opening of its own."""
    chosen = user.args[1]
    return user.target is mpc.sub and isinstance(chosen, fx.Node) and chosen.target is mpc.select and chosen.args[1] is x


def _narrow_bits(operand: fx.Node, narrow: Mapping[fx.Node, float]) -> float | None:
    """To how many bits an operand is cut, at its own scale; None if it is not."""
    bits, node = 0.0, operand
    while node.op == "call_function" and (node.target in mpc.VIEWS or node.target is mpc.scale) and node.all_input_nodes:
        factor = abs(float(_argument(node, 1))) if node.target is mpc.scale else 1.0
        bits -= math.log2(factor) if factor else 0.0
        node = node.all_input_nodes[0]
    return bits + narrow[node] if node in narrow else None


def is_constant_product(product: fx.Node, constants: Container[fx.Node]) -> bool:
    """Whether one operand of a product depends on parameters only."""
    return any(not isinstance(n, fx.Node) or n in constants for n in product.args[:2])


def _balanced(node: fx.Node, user: fx.Node, total: float) -> float:
    """One operand's part of the bits of a matrix product, such that what lies before both keeps equally many."""
    losses = {n: _alignment_loss(n) for n in user.all_input_nodes}
    return (total - sum(losses.values())) / 2 + losses[node] if len(losses) == 2 else total / 2


def _alignment_loss(node: fx.Node) -> float:
    """Bits that centring costs between a value's producer and its use in a product."""
    node = source_of(node)
    if node.target in (mpc.add, mpc.sub) and node.all_input_nodes:
        return _alignment_bits(node.all_input_nodes[0], node)
    return 0.0


def _alignment_bits(node: fx.Node, user: fx.Node) -> float:
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


def opened_elementwise(node: fx.Node) -> bool:
    """Whether an element-wise use opens the value as it is, so that truncating it exactly costs no further opening."""
    for user in node.users:
        if user.target in ELEMENTWISE or (user.target is mpc.select and user.args[0] is not node):
            return True
        if user.target is mpc.scale and opened_elementwise(user):
            return True
    return False


def used_untruncated(node: fx.Node) -> bool:
    """Whether a matrix product, linear layer or convolution uses the value untruncated."""
    for user in node.users:
        if user.target in PRODUCTS:
            return True
        if (user.target is mpc.scale or user.target in mpc.VIEWS) and used_untruncated(user):
            return True
    return False
