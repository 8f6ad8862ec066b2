"""What products use whole is made as coarse as an operand need be, by a cut that cannot fail: which values, and to how many bits.

    X right modulo 2^K   ->   (x0 >> f) + (x1 >> f) is X >> f, off by at most a unit, modulo 2^(K - f)

A share need not be right modulo 2^64. A sum, a view, a product of opened values is right modulo 2^k where its operands are, and
the next truncation at an opening makes it right modulo 2^64 again (a lift), if k is 3 bits above the magnitude. A cut takes as
much from the magnitude as from k, so it costs nothing: the opening of the operand, and all that lies before it, has fewer bits.
What is revealed, or cut locally at a probability, needs all 64 bits: there is no such cut before it. Where the failure budget has
room, such a value is cut at a probability instead, and keeps its 64 bits (`scales.Scaler.narrow`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from mpcc.ir import mpc, online
from mpcc.ir.ring import RING_BITS

from .max_scale_bits import early_operand, is_constant_product, rms_of, used_untruncated
from .values import LEAST_SIZE

OPERAND_BITS = 14.0
"""Fraction bits of an operand of a product that is not truncated again: those of an element-wise one. A bit more is 4 % more
bytes of a ViT-S, 2 % of small models, and no output of the zoo's tune half is nearer for it than it differs between images."""
MOST_COARSE = 3
"""Bits that operands with one bit less, of three factors, leave more."""
MOST_EXTRA_BITS = 12.0
"""By how much an operand smaller than 1 gets more: see `scales`."""
LIFTING = frozenset({mpc.square, mpc.polynomial, mpc.less, mpc.curve})


def operand_bits(rms: float) -> float:
    """Fraction bits of an operand of this root mean square."""
    return OPERAND_BITS + min(MOST_EXTRA_BITS, max(0.0, -math.log2(max(rms, LEAST_SIZE))))


@dataclass
class Tried:
    """What lowering a graph has shown so far: `kept` are nodes, by name, whose values are not cut for good; `coarse` are products
    that are made of operands with a bit less, so that they can be."""

    kept: set[str] = field(default_factory=set)
    coarse: set[str] = field(default_factory=set)

    def learn(self, failed: Mapping[str, int]) -> None:
        """`failed`: nodes whose values were cut for good, and by how many bits more is needed of them than that leaves."""
        for name, bits in failed.items():
            (self.kept if name in self.coarse or bits > MOST_COARSE else self.coarse).add(name)


def narrowed(graph: fx.Graph, constants: Container[fx.Node], kept: Container[str]) -> dict[fx.Node, float]:
    """Node -> fraction bits, of all values that a product uses whole and that are lifted before anything needs 64 bits.

    `kept` are names of nodes that stay as they are.
    """
    open_ended: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if any(user.op == "output" or (user in open_ended and not _lifts(node, user, constants)) for user in node.users):
            open_ended.add(node)
    found = {}
    for node in graph.nodes:
        plain = node.op == "call_function" and node not in constants and "range" in node.meta
        if not plain or node.target in mpc.VIEWS or node.target in (mpc.scale, mpc.sum) or node.name in kept:
            continue
        if used_untruncated(node) and node not in open_ended and not _in_chain(node, constants):
            found[node] = operand_bits(rms_of(node))
    return found


def _lifts(node: fx.Node, user: fx.Node, constants: Container[fx.Node]) -> bool:
    """Whether a use makes of a value right modulo 2^k one that is right modulo 2^64."""
    if user.target is mpc.mul:
        return not is_constant_product(user, constants)
    return user.target in LIFTING or (user.target is mpc.select and user.args[0] is not node)


def _in_chain(node: fx.Node, constants: Container[fx.Node]) -> bool:
    """Whether a product that reads the value is one of three operands, which share the bits in a way of their own."""
    for user in node.users:
        if user.target is mpc.matmul and not is_constant_product(user, constants):
            if early_operand(user, constants) is not None or any(_chained(one, constants) for one in user.users):
                return True
        elif (user.target is mpc.scale or user.target in mpc.VIEWS) and _in_chain(user, constants):
            return True
    return False


def _chained(node: fx.Node, constants: Container[fx.Node]) -> bool:
    if node.target is mpc.matmul:
        return not is_constant_product(node, constants)
    passed = node.target is mpc.scale or node.target in mpc.VIEWS
    return passed and any(_chained(user, constants) for user in node.users)


# ---- on the online graph -----------------------------------------------------------------------------------------------


class Rings:
    """K of every share: it is right modulo 2^K. `exact` are the nodes that cut a share and give bits of K up for it."""

    def __init__(self) -> None:
        self.exact: dict[fx.Node, str] = {}
        """The cut, and the node of the mpc graph whose value it cuts."""
        self.known: dict[fx.Node, int] = {}

    def of(self, node: fx.Node) -> int:
        if node not in self.known:
            self.known[node] = self._of(node)
        return self.known[node]

    def missing(self, node: fx.Node) -> int:
        """Bits that are not right."""
        return RING_BITS - self.of(node)

    def _of(self, node: fx.Node) -> int:
        if node.op != "call_function":
            return RING_BITS
        if node in self.exact:
            x, f = node.args
            assert isinstance(x, fx.Node) and isinstance(f, int)
            return self.of(x) - f
        if node.target is online.times:
            x, factor = node.args
            assert isinstance(x, fx.Node) and isinstance(factor, int)
            return min(RING_BITS, self.of(x) + _zeros(factor))
        if node.target is online.combine:
            shares: Any = node.args[0]
            factors: Any = node.args[1]
            return min(min(RING_BITS, self.of(x) + _zeros(factor)) for x, factor in zip(shares, factors, strict=True))
        rule = PASSED.get(node.target)
        return RING_BITS if rule is None else min((self.of(one) for one in rule(node)), default=RING_BITS)


def _zeros(factor: int) -> int:
    """Trailing zeros: a multiple of 2^j is right modulo 2^(K + j)."""
    return RING_BITS if factor == 0 else (factor & -factor).bit_length() - 1


def _all(node: fx.Node) -> list[fx.Node]:
    return node.all_input_nodes


def _first(node: fx.Node) -> list[fx.Node]:
    return node.all_input_nodes[:1]


def _product(node: fx.Node) -> list[fx.Node]:
    """Both opened values."""
    return [one for one in node.args[1:3] if isinstance(one, fx.Node)]


def _opened(node: fx.Node) -> list[fx.Node]:
    """The value before its mask."""
    masked: Any = node.args[0]
    return [masked.args[0]]


PASSED: Mapping[Any, Callable[[fx.Node], list[fx.Node]]] = {
    **dict.fromkeys(mpc.VIEWS, _all),
    **dict.fromkeys(
        (online.moved, online.add_public, online.add_weight, online.total, online.gather, online.apply_mask, online.scale_rows,
         online.truncate_locally),
        _first,
    ),
    online.open_: _opened,
    online.product: _product,
    online.weight_product: lambda node: _product(node)[:1],
    online.public_product: lambda node: _product(node)[:1],
}  # fmt: skip
"""What a share is no more right than. Kernels that truncate at least a bit of what was opened lift it."""
