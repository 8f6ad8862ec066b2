"""Which bits of each opened value travel: no more than its uses need. A demanded-bits analysis, read backwards.

    X truncated at its opening by f bits      |X| < 2^m: m + 2 bits (see `ir.online`), and SPARE for what was never seen
    X multiplied untruncated, or summed       as many as are needed of the result: arithmetic modulo 2^k needs k bits
    X compared on a window of bits            up to the window's sign bit
    X truncated by each party alone         f bits more than are needed of the result: right modulo 2^K, it is so modulo 2^(K - f)
    X on the grid of a spline gate          those of the place and of the piece
    X revealed                              all 64

Low bits that every use drops are dropped before, by each party of its own share:

    (x0 >> f) + (x1 >> f) = (x0 + x1) >> f, off by at most one unit, modulo 2^(64 - f)

always: what goes wrong when shares are cut locally is a multiple of 2^(64 - f), which an opening of k - f <= 64 - f bits does
not see. One bit less than the uses drop is cut: truncating the last one at the opening makes the result right modulo 2^64 again.

A program is lowered twice: with all bits, and once more with these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import fx

from mpcc.ir import comparison_circuit, curve, mpc, online
from mpcc.ir.ring import RING_BITS

from .openings import Width

LIFTED = 1
"""Bits that are left for the opening to truncate."""
SPARE = 1
"""Bits for values beyond the bound, which is the calibrated extreme times the margin of the settings already."""
LEAST_BITS = 3
"""Of an opening: a shift of one bit, and the ring's half."""
PASSES_ON = frozenset(
    {online.mask_with, online.moved, online.times, online.combine, online.add_public, online.add_weight,
     online.total, online.gather, online.apply_mask, online.scale_rows, online.product, online.weight_product,
     online.public_product}
) | frozenset(mpc.VIEWS)  # fmt: skip
"""What is right modulo 2^k wherever its operands are."""


def widths(graph: fx.Graph, magnitudes: Mapping[fx.Node, float]) -> dict[int, Width]:
    """What is opened of each value, by its number. `magnitudes`: log2 of the largest |X| of each, in order (see `Openings`)."""
    needed, found = needed_bits(graph, magnitudes), {}
    for number, opening in enumerate(magnitudes):
        if opening in needed:
            cut = max(0, min(_dropped(opening), default=0))
            found[number] = Width(max(LEAST_BITS, needed[opening] - cut), cut)
    return found


def needed_bits(graph: fx.Graph, magnitudes: Mapping[fx.Node, float]) -> dict[fx.Node, int]:
    """How many low bits of each value its uses need."""
    needed: dict[fx.Node, int] = {}
    for node in reversed(graph.nodes):
        if node.op != "output":
            bits = max((bits for user in node.users for bits in _asked(node, user, needed, magnitudes)), default=LEAST_BITS)
            needed[node] = min(RING_BITS, bits)
    return needed


def excess(cut: fx.Node, needed: Mapping[fx.Node, int]) -> int:
    """By how many bits more is needed of a cut of shares than are right up to a unit always, not only as a rule; 0 or less: all
    that is needed is right."""
    return needed.get(cut, 0) + _number(cut.args[1]) - RING_BITS


def check(graph: fx.Graph, opened: Mapping[fx.Node, Width]) -> None:
    """AssertionError if a value was cut that something uses whole."""
    for node in graph.nodes:
        if node in opened and opened[node].cut and min(_dropped(node), default=0) < 0:
            raise AssertionError(f"{node} was cut by {opened[node].cut} bits, more than its uses drop")


def _dropped(opened: fx.Node) -> Iterator[int]:
    """How many bits each use of an opened value may do without, views and public summands passed over; -1: of none."""
    for user in opened.users:
        if user.target in mpc.VIEWS or user.target is online.moved:
            yield from _dropped(user)
        elif user.target is online.leaves:
            yield _number(user.args[2])
        else:
            yield from (shift - LIFTED for shift in _truncations(opened, user) or [0])


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
    shifts = _truncations(node, user)
    if not shifts:
        yield RING_BITS
    for shift in shifts:
        yield max(math.ceil(_magnitude(node, magnitudes)) + 2 + SPARE, shift + 3) if shift else needed[user]


def _truncations(node: fx.Node, user: fx.Node) -> Sequence[int]:
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
