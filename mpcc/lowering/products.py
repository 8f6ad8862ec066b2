"""Products and polynomials of secret values: from the openings of their operands."""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Sequence
from typing import Any

from torch import fx

from mpcc.errors import RangeError
from mpcc.ir import dealer, online
from mpcc.ir.nn import size_of
from mpcc.ir.ring import RING_BITS, wrap

from .max_scale_bits import LIFT_ROOM, floor_bits, least_weight_bits
from .openings import Opening
from .scales import Scaler
from .values import LIMIT, Constant, Secret

WEIGHT_BITS = 13
"""Significant bits of a weight at its root mean square, where there is room: rounded by 2^-13 / sqrt(12) = 3.5e-5 of itself, as
an input of size 1 is at its fewest bits (`LEAST_INPUT`), and averaged out over a row. More would take room from the input."""
MOST_WEIGHT_BITS = 24.0
"""Fraction bits of a weight: a float32 of size 1 has no more."""
COEFFICIENT_BITS = 11
"""Bits by which the result of a polynomial is finer than its highest power. A rounded coefficient is off by half a unit, so each
term by at most 2^-12 of the variable's range to its power."""
SPARE_COEFFICIENT_BITS = 4
"""Finer still where there is room: 2^-16 a term, below the rounding of the variable (2^-15)."""
MOST_POWER_BITS = 15
"""Bits of a polynomial's variable, over its radius: one more than a result keeps as the next operand (14)."""
MORE_OF_INPUT = 1.0
"""Significant bits that a value keeps more than the weight it meets, where both have few: its roundings are others in every
answer, and noise on the outputs has to hide them (see `flood`)."""
ROOM_TO_SPARE = 3.0
"""Bits that a weight gives up where it has more than it needs: values 8 times the allowed bound then still fit the ring."""
LEAST_OPERAND = 12.0
"""Fraction bits that an operand of an element-wise product keeps at least: two fewer than usual (14), four times the
rounding, for a product that needs no further opening."""
MOST_OPERAND = 17.0
"""Fraction bits an operand of a product that is cut keeps at most, on average: 3 more than usual. Beyond that the product grows
past where each party may cut its share alone, for bits that the cut drops."""
THREE_FACTOR_BITS = 3 * LEAST_OPERAND
"""The scale that a product of three operands has at least."""
MANY_TERMS = 2
"""The dealer's terms of a product of three, of which two are small, are twice those of a product of two."""
ROWS = 8
"""How many values a factor is shared by before it is opened whole: in 64 bits instead of about 20, for the sake of 8 bytes of the
dealer's for each of the values."""
MOST_OVER = 2
"""Bits by which an operand is made coarser for a sum that has no room for them: up to four times its rounding, for a round
and an opening of every value."""
LEAST_SQUARED = LEAST_OPERAND - 1.0
"""As for a product, one bit fewer: both factors are rounded the same way, once."""
MOST_SQUARE = 40.0
"""Fraction bits of a square: 20 for the operand, 6 more than usual, which small values (variances) need."""


def multiply(
    s: Scaler, x: Secret, y: Secret, out: tuple[float, float], cap: float, coarse: bool = False, sum_bits: float = math.inf
) -> Secret:
    """Element-wise product; each operand truncated at its opening to its own precision.

    `sum_bits`: those of a sum that has no room for more. A product that is a bit or two finer is made as coarse right away, if it
    were cut through an opening of its own otherwise.
    """
    px, py = operand_bits(s, (x, y), cap, coarse)
    over = math.ceil(px + py - sum_bits - 1e-9) if sum_bits < math.inf else 0
    if 0 < over <= MOST_OVER and px + py > s.cuttable_bits(max(size_of(x.node), size_of(y.node)), out[1]):
        px -= over
    x, y = cut_rows(s, (x, y), (px, py))
    fx, fy = s.shift_to(x, px), s.shift_to(y, py)
    ox, oy = s.openings.open(x.node, x.magnitude), s.openings.open(y.node, y.magnitude)
    scale = x.scale / 2**fx * (y.scale / 2**fy)
    o = s.openings
    if fx == 0 and fy == 0:
        rxy = s.b.correlation(s.b.deal(dealer.product, "mul", ox.mask, oy.mask))
        node = s.b.on(online.product, "mul", ox.c, oy.c, o.mask_share(ox), o.mask_share(oy), rxy)
        return Secret(node, scale, *out)
    return Secret(multilinear(s, (ox, oy), (fx, fy)), scale, *out)


def multiply_three(
    s: Scaler, factors: tuple[Secret, Secret, Secret], out: tuple[float, float], cap: float, coarse: bool = False
) -> Secret:
    """The product of three values in the round in which the last of them is opened."""
    bits = operand_bits(s, factors, cap, coarse)
    cut = cut_rows(s, factors, bits)
    shifts = tuple(s.shift_to(x, p) for x, p in zip(cut, bits, strict=True))
    scale = math.prod(x.scale / 2**f for x, f in zip(cut, shifts, strict=True))
    return Secret(multilinear(s, tuple(s.openings.open(x.node, x.magnitude) for x in cut), shifts), scale, *out)


def cut_rows(s: Scaler, factors: Sequence[Secret], bits: Sequence[float]) -> list[Secret]:
    """Factors that are the same for many values, cut by each party alone where that is safe: opened whole, they need no b.

    That halves what the dealer sends for every value of the other factor, or more where there are several.
    """
    largest = max(size_of(x.node) for x in factors)
    found = []
    for x, wanted in zip(factors, bits, strict=True):
        few = size_of(x.node) * ROWS <= largest and not s.rings.missing(x.node)
        few = few and x.bits <= s.cuttable_bits(size_of(x.node), x.rms)
        found.append(s.reduce(x, wanted, opened_anyway=False) if few else x)
    return found


def operand_bits(s: Scaler, factors: Sequence[Secret], cap: float, coarse: bool = False) -> list[float]:
    """Fraction bits of each factor. Where the product will be cut to a low cap anyway they are few: a local cut is then safe.

    `coarse`: as few as possible, and one less (see `narrowing.Tried`).
    """
    wanted = [min(float(s.precision(x)), x.bits) for x in factors]
    least = [min(w, LEAST_OPERAND + s.precision(x) - s.fraction_bits) for w, x in zip(wanted, factors, strict=True)]
    if coarse:
        return [bits - 1.0 for bits in least]
    room = cap - 0.5 * len(factors)  # shifts are whole bits: half a bit each may be gained by rounding
    excess = sum(wanted) - max(min(room, MOST_OPERAND * len(factors)), sum(least))
    if excess > 0:
        slack = [w - k for w, k in zip(wanted, least, strict=True)]
        share = min(1.0, excess / sum(slack)) if sum(slack) else 0.0
        wanted = [w - k * share for w, k in zip(wanted, slack, strict=True)]
    return wanted


def multilinear(s: Scaler, openings: Sequence[Opening], shifts: Sequence[int]) -> Any:
    """The product of truncated values u_i = P_i - rho_i + Q_i b_i (P, Q public): the dealer gives every product of rho's and b's.

    A product of two or more b's is left out where M M' ... vanishes modulo 2^64.
    """
    made, left = s.openings, tuple(x.left(f) for x, f in zip(openings, shifts, strict=True))
    terms, shares = [], []
    for choice in itertools.product((0, 1, 2), repeat=len(openings)):
        if not any(choice) or any(c == 2 and f == 0 for c, f in zip(choice, left, strict=True)):
            continue
        tops = [o.ring - 1 - f for c, o, f in zip(choice, openings, left, strict=True) if c == 2]
        if len(tops) > 1 and sum(tops) >= RING_BITS:
            continue
        chosen = [i for i, c in enumerate(choice) if c]
        if len(chosen) == 1:
            i = chosen[0]
            share = made.high(openings[i], shifts[i]) if choice[i] == 1 else made.top(openings[i])
        else:
            value = None
            for i in chosen:
                part = made.rho(openings[i], shifts[i]) if choice[i] == 1 else made.bit(openings[i])
                value = part if value is None else s.b.deal(dealer.multiply, value, part)
            assert value is not None
            share = s.b.correlation(value)
        terms.append(choice)
        shares.append(share)
    rings = tuple(x.ring for x in openings)
    return s.b.on(online.multilinear, tuple(x.c for x in openings), left, tuple(terms), tuple(shares), rings)


def square(s: Scaler, x: Secret, out: tuple[float, float], cap: float) -> Secret:
    """x^2 from one opening."""
    bits = min(s.precision(x), x.bits, max(LEAST_SQUARED, min(cap, MOST_SQUARE) / 2))
    f = s.shift_to(x, bits)
    scale = (x.scale / 2**f) ** 2
    return Secret(_power_sum(s, x, 0, f, [0, 0, 1]), scale, *out)


def polynomial(
    s: Scaler, x: Secret, coefficients: Sequence[float], low: float, high: float, out: tuple[float, float], unit_of: float = 1.0
) -> Secret:
    """sum_k coefficients[k] x^k from one opening: the powers of the mask come from the dealer.

    The variable is moved to the middle of its range (free), so that its bits are spent where it lives. The result's scale is a
    power of two times the mantissa of `unit_of`: that of a value that it will be added to.
    """
    degree = len(coefficients) - 1
    if degree == 0:
        coefficients, degree = [*coefficients, 0.0], 1
    middle = (low + high) / 2
    radius = max(high - middle, 2.0**-16)
    moved = shifted(coefficients, middle)
    room = LIMIT - 1.0 - math.log2(out[0])
    power_bits = min((room - COEFFICIENT_BITS) / degree, MOST_POWER_BITS)
    f = s.shift_to(x, power_bits - math.log2(radius))
    unit = x.scale / 2**f
    used = degree * math.log2(radius * abs(unit))
    mantissa = 2.0 * math.frexp(abs(unit_of))[0]
    bits = min(room, used + COEFFICIENT_BITS + SPARE_COEFFICIENT_BITS) - math.log2(mantissa)
    target = mantissa * 2.0 ** math.floor(bits)
    integers = [round(a * target / unit**k) for k, a in enumerate(moved)]
    node = _power_sum(s, x, round(middle * x.scale), f, integers)
    return Secret(node, target, *out)


def shifted(coefficients: Sequence[float], middle: float) -> list[float]:
    """The coefficients of p(middle + u) in u."""
    degree = len(coefficients) - 1
    return [
        math.fsum(coefficients[k] * math.comb(k, j) * middle ** (k - j) for k in range(j, degree + 1)) for j in range(degree + 1)
    ]


def _power_sum(s: Scaler, x: Secret, middle: int, f: int, integers: Sequence[int]) -> Any:
    o = s.openings
    opening = o.open(x.node, math.log2(2.0**x.magnitude + abs(middle)))
    degree, middle = len(integers) - 1, opening.moved(middle)
    c = s.b.on(online.moved, opening.c, -middle) if middle else opening.c
    rho = [None, *(o.power(opening, f, k, False) for k in range(1, degree + 1))]
    b_rho = [o.power(opening, f, k, True) for k in range(degree)] if f else []
    wrapped = tuple(wrap(a) for a in integers)
    return s.b.on(online.power_sum, c, opening.left(f), wrapped, tuple(rho), tuple(b_rho), opening.ring)


def matrix_product(s: Scaler, x: Secret, y: Secret, out: tuple[float, float]) -> Secret:
    """x @ y of two secret values, untruncated: exact modulo 2^64."""
    room = LIMIT - math.log2(out[0]) - max(s.rings.missing(x.node), s.rings.missing(y.node))
    if x.bits + y.bits > room:
        excess = x.bits + y.bits - room
        x = s.reduce(x, x.bits - excess / 2, opened_anyway=False)
        y = s.reduce(y, y.bits - excess / 2, opened_anyway=False)
    ox, oy = s.openings.open(x.node, x.magnitude), s.openings.open(y.node, y.magnitude)
    rxy = s.b.correlation(s.b.deal(dealer.product, "matmul", ox.mask, oy.mask))
    node = s.b.on(
        online.product, "matmul", ox.c, oy.c, s.openings.mask_share(ox), s.openings.mask_share(oy), rxy
    )
    return Secret(node, x.scale * y.scale, *out)


def weight_product(
    s: Scaler, kind: str, x: Secret, weight: Constant, out: tuple[float, float], cap: float, attributes: tuple[Any, ...] = (),
    anyway: Container[fx.Node] = (),
) -> Secret:  # fmt: skip
    """A product with a tensor of the server: only x is opened; the weight's mask was opened at set-up.

    With one that is public: of the shares, without an opening; or of what is opened, where x is among the shares opened
    `anyway`, as the client's share is then known before the input and need not be sent in a round (`program.ways`).
    """
    if not weight.rms < 2.0**LIMIT:  # infinity is not
        raise RangeError("a weight is infinite or beyond the ring", where=weight.name, hint="Check the trained model.")
    missing = s.rings.missing(x.node)
    ring = LIMIT - math.log2(out[0]) - missing
    room = min(cap - missing, ring)
    least = least_weight_bits(weight.rms)
    if x.bits + least > room:
        even = (room + math.log2(weight.rms) - math.log2(x.rms)) / 2  # as many significant bits as the weight
        fewest = min(floor_bits(x.rms, s.least_bits), ring - least)
        x = s.reduce(x, max(min(room - least, even + MORE_OF_INPUT), fewest), opened_anyway=False)
        room = min(max(room, x.bits + least), ring)
    wanted = min(WEIGHT_BITS - math.log2(weight.rms), room - x.bits, MOST_WEIGHT_BITS)
    spared = min(room, ring - (ROOM_TO_SPARE + LIFT_ROOM if missing else ROOM_TO_SPARE)) - x.bits
    wanted = min(wanted, max(least, spared))  # where there is room, leave some for values that calibration did not see
    bits = math.floor(x.bits + wanted + 1e-9)  # the result's scale is a power of two, so that residual sums align
    scale = math.copysign(2.0**bits, x.scale) / x.scale
    node = s.b.weight(weight.name, weight.value, scale, weight.public)
    if weight.public and x.node not in anyway:
        return Secret(s.b.on(online.public_product, kind, x.node, node, attributes), math.copysign(2.0**bits, x.scale), *out)
    opening = s.openings.open(x.node, x.magnitude)
    if weight.public:
        rw = s.b.on(online.public_product, kind, s.openings.mask_share(opening), node, attributes)
        product = s.b.on(online.weight_product, kind, opening.c, node, rw, attributes)
        return Secret(product, math.copysign(2.0**bits, x.scale), *out)
    mask = s.b.weight_mask(node)
    opened = s.b.on(online.open_weight, s.b.on(online.mask_with, node, s.b.correlation(mask)))
    rb = s.b.correlation(s.b.deal(dealer.product, kind, opening.mask, mask, attributes))
    rw = s.b.on(online.mask_weight_product, kind, s.openings.mask_share(opening), opened, rb, attributes)
    node = s.b.on(online.weight_product, kind, opening.c, node, rw, attributes)
    return Secret(node, math.copysign(2.0**bits, x.scale), *out)


def with_weight(s: Scaler, x: Secret, constant: Constant, out: tuple[float, float], shape: Sequence[int]) -> Secret:
    """x plus a tensor of the server, encoded at x's scale. Free."""
    node = s.b.weight(constant.name, constant.value, x.scale)
    return Secret(s.b.on(online.add_weight, x.node, node, tuple(shape)), x.scale, *out)


