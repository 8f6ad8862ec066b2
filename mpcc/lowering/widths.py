"""How many low bits of each opened value travel: no more than its uses need. A demanded-bits analysis, read backwards.

    X truncated at its opening by f bits      |X| < 2^m: m + 2 bits (see `ir.online`), and SPARE for what was never seen
    X multiplied untruncated, or summed       as many as are needed of the result: arithmetic modulo 2^k needs k bits
    X compared on a window of bits            up to the window's sign bit
    X truncated by each party alone         f bits more than are needed of the result: right modulo 2^K, it is so modulo 2^(K - f)
    X on the grid of a spline gate          those of the place and of the piece
    X revealed                              all 64

A program is lowered twice: with all bits, and once more with these. Whole bytes travel, so widths are multiples of 8.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import fx

from mpcc.ir import comparison_circuit, curve, mpc, online
from mpcc.ir.ring import RING_BITS

SPARE = 1
"""Bits for values beyond the bound, which is the calibrated extreme times the margin of the settings already."""
PASSES_ON = frozenset(
    {online.mask_with, online.moved, online.times, online.combine, online.add_public, online.add_weight,
     online.total, online.gather, online.apply_mask, online.scale_rows, online.product, online.weight_product}
) | frozenset(mpc.VIEWS)  # fmt: skip
"""What is right modulo 2^k wherever its operands are."""


def widths(graph: fx.Graph, magnitudes: Mapping[fx.Node, float]) -> dict[int, int]:
    """The ring of each opening, by its number. `magnitudes`: log2 of the largest |X| of each, in order (see `Openings`)."""
    needed: dict[fx.Node, int] = {}
    for node in reversed(graph.nodes):
        if node.op == "output":
            continue
        bits = max((bits for user in node.users for bits in _asked(node, user, needed, magnitudes)), default=8)
        needed[node] = min(RING_BITS, -(-bits // 8) * 8 if node.target is online.open_ else bits)
    return {number: needed[opening] for number, opening in enumerate(magnitudes) if opening in needed}


def _asked(
    node: fx.Node, user: fx.Node, needed: Mapping[fx.Node, int], magnitudes: Mapping[fx.Node, float]
) -> Iterator[int]:
    """How many low bits of a node its user needs, for each operand that it is."""
    if user.target in PASSES_ON or user.target is online.open_:
        yield needed[user]
        return
    if user.target is online.truncate_locally:
        yield min(RING_BITS, needed[user] + _number(user.args[1]))
        return
    if user.target is curve.curve:
        yield _number(user.args[3]) + _number(user.args[4]) if node is user.args[0] else RING_BITS
        return
    if user.target is online.leaves:
        yield _number(user.args[2]) + comparison_circuit.WINDOW_BITS + 1 if node is user.args[0] else RING_BITS
        return
    shifts = list(_truncations(node, user))
    if not shifts:
        yield RING_BITS
    for shift in shifts:
        yield max(math.ceil(_magnitude(node, magnitudes)) + 2 + SPARE, shift + 3) if shift else needed[user]


def _truncations(node: fx.Node, user: fx.Node) -> Iterable[int]:
    """The bits that a kernel cuts off an opened value; nothing if it does not take it as one."""
    match user.target:
        case online.truncated | online.power_sum if node is user.args[0]:
            return [_number(user.args[1])]
        case online.select if node is user.args[2]:
            return [_number(user.args[3])]
        case online.multilinear:
            pairs: Any = zip(user.args[0], user.args[1], strict=True)  # type: ignore[arg-type]
            return [shift for opening, shift in pairs if opening is node]
    return []


def _magnitude(c: fx.Node, magnitudes: Mapping[fx.Node, float]) -> float:
    """log2 of the largest |X| of an opening, or of what is derived from one."""
    while c not in magnitudes:
        c = c.all_input_nodes[0]
    return magnitudes[c]


def _number(argument: Any) -> int:
    assert isinstance(argument, int)
    return argument
