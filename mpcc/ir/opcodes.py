"""The operations of a program, written out: the stable name of each, the kinds of its arguments, and its shape.

This is the instruction set of program.json. What is not in the table does not exist; a name here never changes its
meaning, whatever the function behind it is called. A new operation is one row, and a new version of the format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from . import curve, dealer, kinds, online, shapes
from .comparison_circuit import WINDOW_BITS
from .kinds import MOST_DIMS, MOST_ELEMENTS, Kind, Nodes, fields, integer, integers, many, maybe, node, one_of, shape
from .ring import BILINEAR, RING_BITS
from .trace import infer

aten = torch.ops.aten

MOST_FACTORS = 8
"""Operands of one `multilinear` (its terms are 3^n), and twice the degree of the highest polynomial that lowering writes."""
MOST_SUMMANDS = 1 << 12
WORD = integer(-(1 << 63), (1 << 63) - 1)
WORDS = many(WORD)
SHIFT = integer(0, RING_BITS - 1)
CUT = integer(1, RING_BITS - 1)
RING = integer(3, RING_BITS)
"""A shift of one bit, and the ring's half, need as many."""
LOW = integer(0, RING_BITS - WINDOW_BITS - 1)
"""The lowest bit of a comparison's window: its sign bit lies in the ring."""
NOISE_BITS = RING_BITS - 5
"""The sum of twelve numbers of so many bits stays below 2^63."""
NOISE = integer(0, NOISE_BITS)
SIZE = integer(0, MOST_ELEMENTS)
DIM = integer(-MOST_DIMS, MOST_DIMS - 1)
DIMS = many(DIM, MOST_DIMS)
NODES = many(node, MOST_SUMMANDS, least=1)
SHARES = many(node, 3**MOST_FACTORS)
COEFFICIENTS = many(WORD, 1 << 6, least=2)
POWERS = many(maybe(node), 1 << 6)
SPACE = integers(0, 1 << 16, 3)
STEPS = integers(1, 1 << 16, 3)
DEPTH = integer(1, curve.MOST_DEPTH)
DEGREE = integer(1, curve.MOST_DEGREE)
PLACE = integer(1, curve.MOST_LOW)
"""Bits of a place within a piece."""
FINE = integer(0, 30)
NUMBER = integer(-curve.MOST_NUMBER, curve.MOST_NUMBER)
TABLE = many(many(NUMBER, curve.MOST_PIECES), curve.MOST_DEGREE + 1, least=2)
UNITS = integers(0, curve.MOST_UNIT, curve.MOST_PIECES)
BILINEAR_KIND = one_of(*BILINEAR)
CONVOLUTION = fields(STEPS, SPACE, STEPS, integer(1, 1 << 16), or_none=True)
"""stride, padding, dilation, groups"""


@dataclass(frozen=True)
class Opcode:
    """One operation. The last `optional` arguments may be left out. `shape`: None where the kernel is run on meta tensors."""

    name: str
    function: Callable[..., Any]
    kinds: tuple[Kind, ...]
    shape: Callable[..., shapes.Shape] | None = None
    optional: int = 0

    def read(self, args: Any, nodes: Nodes) -> tuple[Any, ...]:
        """Checked arguments, from JSON values or from a node. ValueError says which is wrong."""
        given = kinds.entries(args, len(self.kinds))
        if len(given) < len(self.kinds) - self.optional:
            raise ValueError(f"{len(given)} arguments, {len(self.kinds) - self.optional} are needed")
        found = []
        for place, (kind, value) in enumerate(zip(self.kinds, given, strict=False), 1):
            try:
                found.append(kind(value, nodes))
            except ValueError as error:
                raise ValueError(f"argument {place}: {error}") from None
        return tuple(found)


def value_of(opcode: Opcode, made: fx.Node) -> Tensor:
    """The meta tensor of what a node gives, from its arguments. ValueError where these do not fit each other."""
    try:
        if opcode.shape is not None:
            return torch.empty(shape(opcode.shape(*made.args), {}), dtype=torch.int64, device="meta")
        value = infer(made)
    except (RuntimeError, IndexError, TypeError, ArithmeticError, AssertionError) as error:
        raise ValueError(f"the arguments do not fit: {(str(error) or type(error).__name__).splitlines()[0]}") from None
    shape(list(value.shape), {})
    assert isinstance(value, Tensor)
    return value


def _named(*opcodes: Opcode) -> Mapping[str, Opcode]:
    return {opcode.name: opcode for opcode in opcodes}


_VIEWS = (
    Opcode("reshape", aten.reshape.default, (node, integers(-1, MOST_ELEMENTS, MOST_DIMS))),
    Opcode("permute", aten.permute.default, (node, DIMS)),
    Opcode("expand", aten.expand.default, (node, integers(-1, MOST_ELEMENTS, MOST_DIMS))),
    Opcode("slice", aten.slice.Tensor, (node, DIM, maybe(WORD), maybe(WORD), integer(1, MOST_ELEMENTS)), optional=4),
    Opcode("pick", aten.select.int, (node, DIM, integer(-MOST_ELEMENTS, MOST_ELEMENTS))),
    Opcode("cat", aten.cat.default, (NODES, DIM), optional=1),
    Opcode("pad", aten.constant_pad_nd.default, (node, integers(-MOST_ELEMENTS, MOST_ELEMENTS, 2 * MOST_DIMS), integer(0, 0))),
    Opcode("roll", aten.roll.default, (node, integers(-MOST_ELEMENTS, MOST_ELEMENTS, MOST_DIMS), DIMS), optional=1),
    Opcode("flip", aten.flip.default, (node, DIMS)),
    Opcode("gather", online.gather, (node, many(maybe(kinds.nested), MOST_DIMS)), shapes.of_gather),
    Opcode("apply_mask", online.apply_mask, (node, shape, kinds.hexadecimal), shapes.of_public_mask),
    Opcode("scale_rows", online.scale_rows, (node, shape, WORDS), shapes.of_row_scale),
)
"""Of both graphs: what moves the values of a share moves those of its mask."""

ONLINE: Mapping[str, Opcode] = _named(
    *_VIEWS,
    Opcode("open", online.open_, (node, RING), shapes.like_first),
    Opcode("open_bits", online.open_bits, (node,), shapes.like_first),
    Opcode("open_weight", online.open_weight, (node,), shapes.like_first),
    Opcode("reveal", online.reveal, (node,), shapes.like_first),
    Opcode("flooded", online.flooded, (node, node, NOISE), shapes.like_first),
    Opcode("mask_with", online.mask_with, (node, node), shapes.like_first),
    Opcode("mask_bits", online.mask_bits, (node, node), shapes.like_first),
    Opcode("times", online.times, (node, WORD), shapes.like_first),
    Opcode("combine", online.combine, (NODES, WORDS), shapes.of_sum),
    Opcode("add_public", online.add_public, (node, WORD), shapes.like_first),
    Opcode("moved", online.moved, (node, WORD), shapes.like_first),
    Opcode("add_weight", online.add_weight, (node, node, shape), shapes.of_weight_sum),
    Opcode("weight_share", online.weight_share, (node, shape), shapes.of_weight_share),
    Opcode("total", online.total, (node, DIMS, kinds.flag)),
    Opcode("truncate_locally", online.truncate_locally, (node, CUT), shapes.like_first),
    Opcode("product", online.product, (BILINEAR_KIND, node, node, node, node, node, CONVOLUTION), optional=1),
    Opcode("weight_product", online.weight_product, (BILINEAR_KIND, node, node, node, CONVOLUTION), optional=1),
    Opcode("public_product", online.public_product, (BILINEAR_KIND, node, node, CONVOLUTION), optional=1),
    Opcode("mask_weight_product", online.mask_weight_product, (BILINEAR_KIND, node, node, node, CONVOLUTION), optional=1),
    Opcode("truncated", online.truncated, (node, SHIFT, node, node, RING), shapes.of_truncated),
    Opcode(
        "multilinear",
        online.multilinear,
        (
            many(node, MOST_FACTORS, least=1),
            many(SHIFT, MOST_FACTORS),
            many(integers(0, 2, MOST_FACTORS), 3**MOST_FACTORS, least=1),
            SHARES,
            many(RING, MOST_FACTORS),
        ),
        shapes.of_multilinear,
    ),
    Opcode("power_sum", online.power_sum, (node, SHIFT, COEFFICIENTS, POWERS, SHARES, RING), shapes.of_power_sum),
    Opcode("curve", curve.curve, (node, node, node, DEPTH, PLACE, FINE, TABLE, UNITS), shapes.of_curve),
    Opcode("leaves", online.leaves, (node, WORD, LOW, node, node), shapes.of_leaves),
    Opcode("planes", online.planes, (node,), shapes.of_planes),
    Opcode("and_planes", online.and_planes, (node, node, node, node), shapes.of_and_planes),
    Opcode("bit_number", online.bit_number, (node, node, shape), shapes.of_bit_number),
    Opcode(
        "select",
        online.select,
        (node, node, node, SHIFT, node, maybe(node), node, maybe(node), RING),
        shapes.of_select,
    ),
)
"""What the two parties run."""

DEALER: Mapping[str, Opcode] = _named(
    *_VIEWS,
    Opcode("mask", dealer.mask, (shape,), shapes.as_stated),
    Opcode("weight_mask", dealer.weight_mask, (shape,), shapes.as_stated),
    Opcode("random_bits", dealer.random_bits, (shape,), shapes.as_stated),
    Opcode("noise", dealer.noise, (shape, NOISE), shapes.as_stated),
    Opcode("plane_masks", dealer.plane_masks, (SIZE,), shapes.of_plane_masks),
    Opcode("high", dealer.high, (node, SHIFT, RING), shapes.like_first),
    Opcode("top", dealer.top, (node, RING), shapes.like_first),
    Opcode("multiply", dealer.multiply, (node, node), shapes.of_pair),
    Opcode("product", dealer.product, (BILINEAR_KIND, node, node, CONVOLUTION), optional=1),
    Opcode("tables", dealer.tables, (node, LOW), shapes.of_tables),
    Opcode("sign", dealer.sign, (node, LOW), shapes.flat),
    Opcode("mask_products", dealer.mask_products, (node,), shapes.of_mask_products),
    Opcode("packed", dealer.packed, (node,), shapes.of_packed),
    Opcode("roots", dealer.roots, (shape,), shapes.as_stated),
    Opcode("tree_keys", dealer.tree_keys, (), shapes.of_tree_keys),
    Opcode("point", dealer.point, (node, DEPTH, PLACE), shapes.like_first),
    Opcode("powers", dealer.powers, (node, PLACE, DEGREE, FINE), shapes.of_powers),
    Opcode("tree", dealer.tree, (node, node, node, node, DEPTH), shapes.of_tree),
)
"""What the dealer computes."""

BY_FUNCTION: Mapping[Callable[..., Any], Opcode] = {
    opcode.function: opcode for table in (ONLINE, DEALER) for opcode in table.values()
}

__all__ = ["BY_FUNCTION", "DEALER", "ONLINE", "Opcode", "value_of"]
