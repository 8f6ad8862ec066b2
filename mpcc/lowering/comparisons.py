"""Comparison with a public threshold on a window of bits, and selection by its result."""

from __future__ import annotations

import math

from mpcc.ir import comparison_circuit, dealer, online
from mpcc.ir.nn import shape_of
from mpcc.ir.ring import words

from .scales import MOST_SHIFT, Scaler, encode
from .values import LIMIT, Bit, Secret

BEYOND_BOUND = 1.5
"""A threshold further out than this times the bound of the compared value is moved there: no value reaches it either way, and the
window that the comparison needs grows with the threshold. Half a bound is more than roundings can add."""
BELOW_LIMIT = 0.99
"""A threshold is also kept this far below the ring's limit, so that rounding it to an integer cannot reach 2^LIMIT."""
MOST_SELECTED_BITS = 30.0
"""Fraction bits that a selected value keeps at most where it is cut at all: those of a product of two operands (2 * 14), and two
to spare. What is finer than that is rounding of the value itself."""


def less(s: Scaler, x: Secret, threshold: float) -> Bit:
    """The bit x < threshold: the opening of x, one AND round. Right wherever |x - threshold| stays within the window."""
    if x.scale < 0:
        raise AssertionError("a negated value is compared by its own scale")
    shape = shape_of(x.node)
    most = min(BEYOND_BOUND * x.bound, BELOW_LIMIT * 2.0**LIMIT / x.scale)
    threshold = max(-most, min(most, threshold))
    reach = (x.bound + abs(threshold)) * x.scale
    low = max(0, math.ceil(math.log2(reach)) - comparison_circuit.WINDOW_BITS)
    opening = s.openings.open(x.node, x.magnitude)
    threshold_units = opening.moved(encode(threshold, x.scale, s.where[0]))
    low -= opening.width.cut
    tables = s.b.correlation(s.b.deal(dealer.tables, opening.mask, low))
    sign = s.b.correlation(s.b.deal(dealer.packed, s.b.deal(dealer.sign, opening.mask, low)))
    leaf = s.b.on(online.leaves, opening.c, threshold_units, low, tables, sign)
    a = s.b.fresh(dealer.plane_masks, words(math.prod(shape)))
    a_share = s.b.correlation(a)
    products = s.b.correlation(s.b.deal(dealer.mask_products, a))
    e = s.b.on(online.open_bits, s.b.on(online.mask_bits, s.b.on(online.planes, leaf), a_share))
    return Bit(s.b.on(online.and_planes, e, leaf, a_share, products), shape)


def number(s: Scaler, bit: Bit) -> Secret:
    """A bit as 0 or 1 (scale 1)."""
    opened, beta = s.openings.open_bit(bit.node, bit.shape)
    node = s.b.on(online.bit_number, opened, s.b.correlation(beta), bit.shape)
    if bit.negated:
        return s.signed(Secret(s.b.on(online.add_public, node, -1), 1.0, 1.0, 0.5), -1.0)
    return Secret(node, 1.0, 1.0, 0.5)


def select(s: Scaler, bit: Bit, x: Secret, out: tuple[float, float], cap: float) -> Secret:
    """bit * x: x's opening, and one more round for the bit."""
    o = s.openings
    opened, beta = o.open_bit(bit.node, bit.shape)
    opening = o.open(x.node, x.magnitude)
    lift = s.rings.missing(x.node) > 0
    f = max(int(lift), min(MOST_SHIFT, math.ceil(x.bits - min(cap, MOST_SELECTED_BITS) - 1e-9))) if x.bits > cap or lift else 0
    rho = o.rho(opening, f)
    beta_rho = s.b.correlation(s.b.deal(dealer.multiply, beta, rho))
    beta_b = s.b.correlation(s.b.deal(dealer.multiply, beta, o.bit(opening))) if f else None
    node = s.b.on(
        online.select, opened, s.b.correlation(beta), opening.c, opening.left(f), o.high(opening, f),
        o.top(opening) if f else None, beta_rho, beta_b, opening.ring,
    )  # fmt: skip
    return Secret(node, x.scale / 2**f, *out)
