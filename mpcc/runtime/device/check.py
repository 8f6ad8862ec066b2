"""Before a device computes for a party: each kernel on some thousand random values, against the CPU's result. Under a second.

A bit that differs would be a wrong answer that looks like any other, since all that is computed is secret. The values are random
and stand for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mpcc.errors import CheckFailed
from mpcc.ir import dealer
from mpcc.ir.ring import pack, pack_anywhere, unpack_anywhere
from mpcc.program.layout import Place, Plane, sizes

from ..dealer.randomness import fresh_seed, key_stream, uniform
from ..engine import packing
from ..native import trees
from .products import Digits

if TYPE_CHECKING:
    from .card import Card

COUNT = 999
"""Elements: no multiple of anything."""
GATES = ((5, 32, 3, 9, 12), (8, 256, 7, 14, 20), (4, 16, 0, 1, 0), (12, 16, 2, 11, 9), (20, 64, 4, 9, 12))
"""depth, pieces, degree, low, fine: whole trees of several degrees, and the two subtrees of short tables."""
RINGS = (64, 63, 37, 21, 8, 5, 1)
SHAPES = ((2, 33, 65, 31), (1, 97, 128, 257))
"""batch, rows, terms, columns"""

Pair = tuple[str, Tensor, Tensor]


def check(card: Card) -> None:
    """CheckFailed where a kernel's result is not the CPU's."""
    for name, found, expected in pairs(card):
        if not torch.equal(found.cpu(), expected.cpu()):
            wrong = int((found.cpu() != expected.cpu()).sum())
            raise CheckFailed(
                f"{name}: {wrong} of {expected.numel()} values are not those of the CPU",
                where=card.name,
                hint="The device, its driver or the build of the kernels is broken: nothing was computed on it. "
                "`mpcc gpu --build` compiles anew; `--device cpu` works without.",
            )


def pairs(card: Card) -> Iterator[Pair]:
    """What is compared: what it is, the device's, the CPU's."""
    seed = fresh_seed()

    def words(label: str, *shape: int) -> Tensor:
        return uniform(seed, label, shape)

    yield "masks", card.kernels.draw(bytes(range(32)), COUNT), key_stream(bytes(range(32)), COUNT)
    for number, shape in enumerate(GATES):
        yield from _gates(card, f"gate {number}", shape, words(f"gate {number}", 10, COUNT))
    for ring in RINGS:
        yield from _messages(card, ring, words(f"opening of {ring} bits", COUNT))
    for batch, rows, terms, columns in SHAPES:
        x, y = words(f"left {rows}", batch, rows, terms), words(f"right {rows}", batch, terms, columns)
        yield "products", card.kernels.multiply(card.on_it(x), card.on_it(y)), torch.matmul(x, y)
        for size in (6, 14, 63):
            weight = y[0] >> (63 - size)
            digits = Digits(card.kernels, card.on_it(weight))
            yield f"digits of {size} bits", digits.product(card.on_it(x[0])), torch.matmul(x[0], weight)
    bits = words("bits", 3, COUNT) & 1
    yield "packed bits", pack_anywhere(card.on_it(bits)), pack(bits)
    yield "unpacked bits", unpack_anywhere(card.on_it(pack(bits)), COUNT), bits


def _gates(card: Card, name: str, shape: tuple[int, ...], random: Tensor) -> Iterator[Pair]:
    depth, pieces, degree, low, fine = shape
    roots = random[:4].reshape(2, COUNT, 2).clone()
    roots[0, :, 0] &= -2
    roots[1, :, 0] |= 1
    mask, opened, keys = random[4], random[5], random[6, :4].contiguous()
    point, payload = dealer.point(mask, depth, low), dealer.powers(mask, low, degree, fine)
    expected = trees.make_tree(roots, keys, point, payload, depth)
    moved = [card.on_it(value) for value in (roots, keys, point, payload)]
    key = card.kernels.make_tree(moved[0], moved[1], moved[2], moved[3], depth)
    yield f"{name}: the dealer's keys", key, expected
    numbers = random[7:].reshape(-1)[: (degree + 1) * pieces] >> 44  # of 20 bits
    table = numbers.repeat(-(-(degree + 1) * pieces // numbers.numel()))[: (degree + 1) * pieces].reshape(degree + 1, pieces)
    units = (table[0] & 3).tolist() if pieces > 16 else [0] * pieces
    for party in (0, 1):
        rest = (depth, low, fine, table.tolist(), units)
        found = card.kernels.curve(card.on_it(opened), card.on_it(roots[party]), key, *rest, lead=party == 0)
        yield f"{name}: shares", found, trees.curve(opened, roots[party], expected, *rest, lead=party == 0)


def _messages(card: Card, ring: int, values: Tensor) -> Iterator[Pair]:
    planes, start, offset = [], 0, 0
    for bits in sizes(ring):
        planes.append(Plane(bits, start, COUNT, offset))
        start, offset = start + -(-planes[-1].bytes // 8) * 8, offset + bits
    place, length = Place("value", tuple(planes)), start // 8
    found, expected = card.zeros((length,)), torch.zeros(length, dtype=torch.int64)
    card.write(found, place, card.on_it(values))
    packing.write(expected, place, values)
    yield f"openings of {ring} bits", found, expected
    yield f"openings of {ring} bits, read", card.read(found, place), packing.read(expected, place)
