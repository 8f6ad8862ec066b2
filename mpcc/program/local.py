"""Local work of the online kernels: how many torch operations each calls, and how many elements they write.

    local_work(node, lead=True)     -> Local(kernels=1, calls=14, elements=15232, macs=0) for a `truncated` [17, 64]

The counts follow `mpcc.ir.online` line by line: a change there changes them here. A test compares them with what
torch's dispatcher sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import fx

from mpcc.ir import comparison_circuit, curve, mpc, online
from mpcc.ir.nn import shape_of, size_of

from .rounds import Message

PUBLIC_PART = 6
"""add, and, shift, subtract; shift, and."""
UNPACK = 4
MATMUL, BATCHED = 4, 7
CONV = 12


@dataclass(frozen=True)
class Local:
    """Kernels run, torch operations that they call, elements that these write, multiply-adds of ring products, and words of the
    leaves of spline gates."""

    kernels: float = 0
    calls: float = 0
    elements: float = 0
    macs: float = 0
    leaves: float = 0

    def __add__(self, other: Local) -> Local:
        return Local(
            self.kernels + other.kernels,
            self.calls + other.calls,
            self.elements + other.elements,
            self.macs + other.macs,
            self.leaves + other.leaves,
        )

    @staticmethod
    def passes(calls: float, size: int) -> Local:
        """Operations that each write `size` elements."""
        return Local(0, calls, calls * size)


def local_work(node: fx.Node, lead: bool) -> Local:
    """What one node of the online graph takes at party 0 (`lead`) or 1."""
    if node.target in mpc.VIEWS:
        return Local(1, 1, size_of(node) if "cat" in str(node.target) else 0)
    rule = RULES.get(node.target)
    return Local(1) + (Local.passes(1, size_of(node)) if rule is None else rule(node, lead))


def exchange_work(message: Message, party: int) -> Local:
    """Writing what is sent into one message, reading and adding what came."""
    sent, came = message.sides[party], message.sides[1 - party]
    calls = sum(4 + 4 * len(place.planes) for place in sent) + sum(6 + 4 * len(place.planes) for place in came)
    elements = sum(plane.count for place in (*sent, *came) for plane in place.planes)
    return Local(2, 3 + calls, elements + sum(place.planes[0].count for place in came))


# ---- products ------------------------------------------------------------------------------------------------------


def multiply_adds(kind: str, left: Sequence[int], right: Sequence[int], out: int) -> int:
    """Multiply-adds of one bilinear map from the shapes of its operands; element by element there are none."""
    match kind:
        case "mul":
            return 0
        case "conv":
            return out * prod(right[1:])
        case "rmatmul":
            return out * left[-2]
    return out * left[-1]


def bilinear(kind: str, left: Any, right: Any, node: fx.Node) -> Local:
    out = size_of(node)
    if kind == "mul":
        return Local.passes(1, out)
    macs = multiply_adds(kind, shape_of(left), shape_of(right), out)
    if kind != "conv":
        return Local(0, BATCHED if len(shape_of(right)) > 2 else MATMUL, out, macs)
    channels = shape_of(right)[0]
    return Local(0, CONV, out + 2 * macs // max(1, channels), macs)  # the patches are written once, read once


def product(node: fx.Node, lead: bool) -> Local:
    kind, cx, cy = node.args[0], node.args[1], node.args[2]
    assert isinstance(kind, str) and isinstance(cy, fx.Node)
    once = bilinear(kind, cx, cy, node)
    return once + once + Local.passes(1, size_of(cy)) + Local.passes(2, size_of(node))


def weight_product(node: fx.Node, lead: bool) -> Local:
    kind = node.args[0]
    assert isinstance(kind, str)
    if not lead:
        return Local.passes(1, size_of(node))
    return bilinear(kind, node.args[1], node.args[2], node) + Local.passes(1, size_of(node))


def public_product(node: fx.Node, lead: bool) -> Local:
    kind = node.args[0]
    assert isinstance(kind, str)
    return bilinear(kind, node.args[1], node.args[2], node)


def mask_weight_product(node: fx.Node, lead: bool) -> Local:
    kind = node.args[0]
    assert isinstance(kind, str)
    return bilinear(kind, node.args[1], node.args[2], node) + Local.passes(1, size_of(node))


# ---- truncated values and polynomials ------------------------------------------------------------------------------


def public_part(f: Any) -> int:
    return PUBLIC_PART if f else 1


def truncated(node: fx.Node, lead: bool) -> Local:
    return Local.passes(public_part(node.args[1]) + (8 if lead else 5), size_of(node))


def horner(degree: int) -> int:
    return 1 + 2 * degree


def power_sum(node: fx.Node, lead: bool) -> Local:
    f, coefficients = node.args[1], node.args[2]
    assert isinstance(coefficients, (list, tuple))
    degree = len(coefficients) - 1
    calls = public_part(f) + (horner(degree) if lead else 1)
    calls += sum(horner(degree - j) + 2 for j in range(1, degree + 1))
    if f:
        calls += (horner(degree - 1) if lead else 1) + horner(degree - 1) + 1 + 6
        calls += sum(horner(degree - 1 - j) + 4 for j in range(1, degree))
    return Local.passes(calls, size_of(node))


def multilinear(node: fx.Node, lead: bool) -> Local:
    openings, shifts, terms, shares = node.args[:4]
    assert isinstance(openings, (list, tuple)) and isinstance(shifts, (list, tuple))
    assert isinstance(terms, (list, tuple)) and isinstance(shares, (list, tuple))
    total, out = Local(), size_of(node)
    for opening, f in zip(openings, shifts, strict=True):
        total += Local.passes(public_part(f) + (5 if f else 0), size_of(opening))
    if lead:
        total += Local.passes(len(openings) - 1, out)
    groups: set[tuple[int, ...]] = set()
    for term, share in zip(terms, shares, strict=True):
        assert isinstance(term, (list, tuple))
        public = tuple(i for i, code in enumerate(term) if code == 0)
        calls = sum(code == 2 for code in term) + sum(code == 1 for code in term) % 2 + (public in groups)
        total += Local.passes(calls, size_of(share))
        groups.add(public)
    return total + Local.passes(sum(1 + len(public) for public in groups) - (not lead), out)


# ---- comparisons ---------------------------------------------------------------------------------------------------


def leaves(node: fx.Node, lead: bool) -> Local:
    c = size_of(node.all_input_nodes[0])
    planes = comparison_circuit.AND_PLANES + 1
    return Local(0, 8 * comparison_circuit.CHUNKS + 12, (7 * comparison_circuit.CHUNKS + 5 + 3 * planes) * c)


def and_planes(node: fx.Node, lead: bool) -> Local:
    calls = 5 + sum(6 * len(term) + 4 for term in comparison_circuit.AND_TERMS)
    rows = 3 + comparison_circuit.AND_PLANES + len(comparison_circuit.SUBSETS)
    rows += sum((6 << len(term)) - 3 for term in comparison_circuit.AND_TERMS)
    return Local(0, calls, rows * size_of(node))


def bit_number(node: fx.Node, lead: bool) -> Local:
    return Local(0, UNPACK + 4 + lead, (2 + 4 + lead) * size_of(node))


def select(node: fx.Node, lead: bool) -> Local:
    f = node.args[3]
    calls = UNPACK + (public_part(f) + (8 if lead else 5) if f else 1) + public_part(f) + 3 + (8 if f else 0) + 5
    return Local.passes(calls, size_of(node))


# ---- spline gates --------------------------------------------------------------------------------------------------


def of_gate(node: fx.Node, lead: bool) -> Local:
    """Views and one call of the compiled kernel, or of numpy: a hash for two words of each leaf, and a number for each word."""
    _, _, _, depth, _, _, table, units = node.args
    assert isinstance(depth, int) and isinstance(table, (list, tuple)) and isinstance(units, (list, tuple))
    grown = curve.grown_levels(depth, len(units))
    return Local(0, 8, 0, 0, size_of(node) * ((len(table) << grown) + 2 * (depth - grown)))


# ---- linear --------------------------------------------------------------------------------------------------------


def combine(node: fx.Node, lead: bool) -> Local:
    shares, factors = node.args[0], node.args[1]
    assert isinstance(shares, (list, tuple)) and isinstance(factors, (list, tuple))
    return Local.passes(len(shares) - 1 + int(factors[0] != 1), size_of(node))


def total(node: fx.Node, lead: bool) -> Local:
    return Local(0, 1, size_of(node.all_input_nodes[0]))


def truncate_locally(node: fx.Node, lead: bool) -> Local:
    return Local.passes(2 if lead else 3, size_of(node))


def only_lead(node: fx.Node, lead: bool) -> Local:
    return Local.passes(1, size_of(node)) if lead else Local()


def view(node: fx.Node, lead: bool) -> Local:
    return Local(0, 1)


def flooded(node: fx.Node, lead: bool) -> Local:
    return Local.passes(3 if node.args[2] else 1, size_of(node))


RULES: dict[Any, Callable[[fx.Node, bool], Local]] = {
    online.product: product,
    online.weight_product: weight_product,
    online.public_product: public_product,
    online.mask_weight_product: mask_weight_product,
    online.truncated: truncated,
    online.power_sum: power_sum,
    online.multilinear: multilinear,
    online.leaves: leaves,
    online.and_planes: and_planes,
    online.bit_number: bit_number,
    online.select: select,
    curve.curve: of_gate,
    online.combine: combine,
    online.total: total,
    online.truncate_locally: truncate_locally,
    online.add_public: only_lead,
    online.add_weight: only_lead,
    online.planes: view,
    online.flooded: flooded,
}
"""Every other kernel is one operation that writes its output."""

__all__ = ["Local", "exchange_work", "local_work", "multiply_adds"]
