"""Spline gates: which bits of x are opened, and the integers of the pieces.

    X at scale S   ->   X m >> f at 2^low / step   ->   opened modulo 2^(depth + low)   ->   y at 2^F, right modulo 2^64

Both parties cut their own share, and nothing can fail: (x0 >> f) + (x1 >> f) is X >> f up to a unit, modulo 2^(64 - f), always.
What a local cut may be wrong by is a multiple of 2^(64 - f), and the opening does not see those bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mpcc.errors import RangeError
from mpcc.ir import curve as gate
from mpcc.ir import dealer, online
from mpcc.ir.nn import shape_of, size_of

from .scales import MOST_SHIFT, Scaler, encode
from .values import LIMIT, Secret

FEW_BITS = 16
"""Opened bits that are taken where they are fine enough: two bytes."""
FINENESS = 2.0**-10
"""How much of a value (or of the root mean square of all) the places may blur it at most: 1.5 units, half a unit of rounding
and one of the two parties' cuts. On average it is a fifth of that, below the error of the pieces themselves."""
MATCH = 2.0**-15
"""How near m / 2^f has to come to 2^low / (step S), relatively: over a range of 16 the far end moves by 2^-11."""
SPARE_BITS = 14
"""Bits by which y is finer than an operand of its size keeps (14): half of all are the dealer's powers', half the pieces'."""


def curve(s: Scaler, x: Secret, arguments: Sequence[Any], out: tuple[float, float], cap: float) -> Secret:
    """The piece of x on a grid: `arguments` are those of `mpc.curve` but x."""
    start, step, pieces = float(arguments[0]), float(arguments[1]), [[float(a) for a in piece] for piece in arguments[2]]
    depth, degree = (len(pieces) - 1).bit_length(), len(pieces[0]) - 1
    if len(pieces) != 1 << depth or not 1 <= depth <= gate.MOST_DEPTH or not 1 <= degree <= gate.MOST_DEGREE:
        most = f"up to {1 << gate.MOST_DEPTH}, a power of two, of degree up to {gate.MOST_DEGREE}"
        raise RangeError(f"{len(pieces)} pieces of degree {degree}: a gate has {most}", where=s.where[0])
    low = place_bits(pieces, depth, out[1])
    c, opening = opened(s, x, start, step, depth, low)
    bits = math.floor(min(cap, s.fraction_bits + SPARE_BITS - math.log2(out[1]), LIMIT - math.log2(out[0])))
    fine = max(0, min(bits, round((bits + math.log2(max(out[1], 2.0**-30))) / 2)))
    table, units = integers(pieces, bits)
    b, mask = s.b, opening.mask
    roots, count = b.fresh(dealer.roots, (size_of(c), 2)), shape_of(c)
    point = b.deal(dealer.point, mask, depth, low)
    payload = b.deal(dealer.powers, mask, low, degree, fine)
    key = b.fresh(dealer.tree, roots, b.fresh(dealer.tree_keys), point, payload, depth)
    node = b.on(gate.curve, c, b.correlation(roots), b.correlation(key), depth, low, fine, table, units)
    assert shape_of(node) == count
    return Secret(node, 2.0**bits, *out)


def place_bits(pieces: Sequence[Sequence[float]], depth: int, rms: float) -> int:
    """The bits of a place within a piece: few where they are enough, else as many as a gate takes."""
    few = min(gate.MOST_LOW, FEW_BITS - depth)
    blurred = (1.5 * 2.0**-few * sum(n * abs(a) for n, a in enumerate(piece)) / max(abs(piece[0]), rms) for piece in pieces)
    return few if few > 0 and max(blurred) <= FINENESS else gate.MOST_LOW


def opened(s: Scaler, x: Secret, start: float, step: float, depth: int, low: int) -> tuple[Any, Any]:
    """(c, its opening): x in units of step / 2^low, from `start` on."""
    factor, drop = ratio(2.0**low / step / x.scale, LIMIT - 1 - x.magnitude)
    if drop > MOST_SHIFT - 3 or factor == 0:
        raise RangeError("a value is too fine, or too coarse, for the grid of its function", where=s.where[0])
    node = x.node if factor == 1 else s.b.on(online.times, x.node, factor)
    node = s.b.on(online.truncate_locally, node, drop) if drop else node
    opening = s.openings.open(node, float(depth + low))
    offset = encode(-start, 2.0**low / step, s.where[0])
    return s.b.on(online.moved, opening.c, offset) if offset else opening.c, opening


def ratio(wanted: float, room: float) -> tuple[int, int]:
    """(m, f) such that m / 2^f is `wanted`: the smallest m that is near enough, below 2^room in magnitude."""
    size = abs(wanted)
    for bits in range(max(1, math.floor(room))):
        f = max(0, bits - math.floor(math.log2(size)))
        m = round(size * 2.0**f)
        if abs(m / 2.0**f / size - 1) <= MATCH:
            return round(math.copysign(m, wanted)), f
    f = max(0, math.floor(room) - 1 - math.floor(math.log2(size)))
    return round(math.copysign(round(size * 2.0**f), wanted)), f


def integers(pieces: Sequence[Sequence[float]], bits: int) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """(coefficients by power and piece, the unit of each piece): pieces of large numbers are rounded to larger units."""
    rows, units = [], []
    for piece in pieces:
        unit = 0
        while gate.largest_number([[round(a * 2.0 ** (bits - unit))] for a in piece]) >= gate.MOST_NUMBER:
            unit += 1
        rows.append([round(a * 2.0 ** (bits - unit)) for a in piece])
        units.append(unit)
    return tuple(zip(*rows, strict=True)), tuple(units)
