"""Spline gates: which bits of x are opened, and the integers of the pieces.

    X at scale S   ->   X m >> f at 2^low / step   ->   opened modulo 2^(depth + low)   ->   y at 2^F, right modulo 2^64

Both parties cut their own share, and nothing can fail: (x0 >> f) + (x1 >> f) is X >> f up to a unit, modulo 2^(64 - f), always.
What a local cut may be wrong by is a multiple of 2^(64 - f), and the opening does not see those bits. So m has as many bits as
the ring has room for, mostly a few; where the grid's step is not one that they can make, those of a slightly longer one are made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from mpcc.errors import RangeError
from mpcc.ir import curve as gate
from mpcc.ir import dealer, online
from mpcc.ir.nn import shape_of, size_of
from mpcc.ir.ring import RING_BITS

from .scales import Scaler, encode
from .values import LIMIT, Secret

BLUR = 1.5
"""Units of a place by which it may be off: half a unit of rounding, and one of the two parties' cuts."""
COARSER_BITS = 2
"""By which a blurred value (or the root mean square of all) may be coarser than an operand; on average it is a fifth of that. A
unit of a place is a step for the noise on outputs to hide, like those between pieces (`mpcc.approximate.grids.TOLERANCES`)."""
MOST_FACTOR_BITS = 16
"""Of m: half a unit of 2^16 over the whole range is below a place."""
EXACT = 2.0**-17
"""How near a step has to come to count as the one that was asked for."""
LONGEST = 1.15
"""How much longer a step may be: errors grow with its power of degree + 1, at most by a half to doubled. Else there are twice as
many pieces, whose step is shorter."""
POINTS = 33
"""Of a piece that is fitted to others, as when it was made (`mpcc.fitting.grids`)."""
Table = tuple[tuple[float, ...], ...]
SPARE_BITS = 14
"""Bits by which y is finer than an operand of its size keeps (14): half of all are the dealer's powers', half the pieces'."""


def curve(s: Scaler, x: Secret, arguments: Sequence[Any], out: tuple[float, float], cap: float) -> Secret:
    """The piece of x on a grid: `arguments` are those of `mpc.curve` but x."""
    start, step, pieces = float(arguments[0]), float(arguments[1]), tuple(tuple(map(float, piece)) for piece in arguments[2])
    levels, degree = (len(pieces) - 1).bit_length(), len(pieces[0]) - 1
    if len(pieces) != 1 << levels or not 1 <= len(pieces) < gate.MOST_PIECES or not 1 <= degree <= gate.MOST_DEGREE:
        most = f"up to {gate.MOST_PIECES // 2}, a power of two, of degree up to {gate.MOST_DEGREE}"
        raise RangeError(f"{len(pieces)} pieces of degree {degree}: a gate has {most}", where=s.where[0])
    depth, many = levels if len(arguments) < 4 or arguments[3] is None else int(arguments[3]), len(pieces)
    short = depth > levels
    low = place_bits(pieces, out[1], s.fraction_bits - COARSER_BITS)
    at = places(x, step, depth + low, low)
    if at.step > LONGEST * step:
        depth, many = depth + 1, 2 * many
        at = places(x, step / 2, depth + low, low)
    if at.drop + depth + low > RING_BITS or at.step > LONGEST * step or x.magnitude + math.log2(abs(at.factor)) > LIMIT + 1:
        raise RangeError("a value is too fine for the grid of its function", where=s.where[0])
    if abs(at.step / step - 1) > EXACT:
        pieces = stretched(pieces, start, step, at.step, many, short)
    c, opening = opened(s, x, start, at, depth + low, low)
    room = min(max(cap, s.cuttable_bits(size_of(c), out[1])), most_bits(pieces))
    bits = math.floor(min(room, s.fraction_bits + SPARE_BITS - math.log2(out[1]), LIMIT - math.log2(out[0])))
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


def place_bits(pieces: Sequence[Sequence[float]], rms: float, bits: int) -> int:
    """The bits of a place within a piece: as few as blur no value by more than 2^-bits of it, as many as a gate takes."""
    slopes = (sum(n * abs(a) for n, a in enumerate(piece)) / max(abs(piece[0]), rms) for piece in pieces)
    return min(gate.MOST_LOW, max(1, math.ceil(math.log2(BLUR * max(slopes) * 2.0**bits + 1e-9))))


@dataclass(frozen=True)
class Places:
    """How X is brought to a grid: times `factor`, cut by `drop` bits; the step that this makes."""

    factor: int
    drop: int
    step: float


def places(x: Secret, step: float, bits: int, low: int) -> Places:
    """The grid of `step` or slightly more for x, of places of `low` and openings of `bits` bits. RangeError from the caller."""
    wanted = 2.0**low / (step * abs(x.scale))
    net = -math.floor(math.log2(wanted) + 1e-9)  # bits that are cut on the whole
    room = min(MOST_FACTOR_BITS, math.floor(LIMIT - x.magnitude), RING_BITS - bits - net)
    for more in range(max(0, room) + 1):
        f = max(0, net + more)
        m = math.floor(wanted * 2.0**f * (1 + EXACT))
        if m and abs(wanted * 2.0**f / m - 1) <= EXACT:
            break
    m = max(1, m)
    return Places(round(math.copysign(m, x.scale)), f, step * (wanted * 2.0**f / m))


def opened(s: Scaler, x: Secret, start: float, at: Places, bits: int, low: int) -> tuple[Any, Any]:
    """(c, its opening): x in units of step / 2^low, from `start` on."""
    node = x.node if at.factor == 1 else s.b.on(online.times, x.node, at.factor)
    node = s.b.on(online.truncate_locally, node, at.drop) if at.drop else node
    opening = s.openings.open(node, float(bits))
    offset = encode(-start, 2.0**low / at.step, s.where[0])
    return s.b.on(online.moved, opening.c, offset) if offset else opening.c, opening


@lru_cache(256)
def stretched(pieces: Table, start: float, step: float, longer: float, count: int, short: bool = False) -> Table:
    """The same function by so many pieces of a grid whose step is another: fitted to the old pieces, where these hold.

    `short`: beyond the last of the old ones it is 0."""
    degree, last = len(pieces[0]) - 1, len(pieces) - 1
    t = -np.cos((np.arange(POINTS) + 0.5) * np.pi / POINTS)
    powers = np.vander(t, degree + 1, increasing=True)
    u = (np.arange(count)[:, None] + t) * (longer / step)  # in old steps
    number = np.clip(np.floor(u), 0, last).astype(int)
    table = np.array(pieces)[number]
    values = sum(table[..., n] * (u - number) ** n for n in range(degree + 1))
    values = np.where(u <= last, values, 0.0) if short else values
    there = (u >= 0) & (short | (u <= last))
    found = values @ np.linalg.pinv(powers).T
    for j in np.flatnonzero(~there.all(1)):
        some = there[j]
        found[j] = np.linalg.lstsq(powers[some], values[j][some], rcond=1e-6)[0] if some.any() else 0.0
    return tuple(tuple(map(float, piece)) for piece in found)


MOST_WHOLE = gate.MOST_NUMBER - (1 << gate.MOST_DEGREE)
"""Of a piece's numbers before they are rounded to integers, which may add as much to a sum."""


def most_bits(pieces: Table) -> float:
    """Fraction bits of which the largest piece has a unit that a gate takes: a grid may reach far above what was seen."""
    largest = float(gate.largest_numbers(np.array(pieces).T).max())
    return gate.MOST_UNIT + math.log2(MOST_WHOLE / largest)


def integers(pieces: Table, bits: int) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """(coefficients by power and piece, the unit of each piece): pieces of large numbers are rounded to larger units."""
    plain = np.array(pieces).T * 2.0**bits
    units = np.maximum(0, np.ceil(np.log2(gate.largest_numbers(plain) / MOST_WHOLE) + 1e-9)).astype(int)
    rounded = np.rint(plain / 2.0**units).astype(int)
    return tuple(tuple(row) for row in rounded.tolist()), tuple(units.tolist())
