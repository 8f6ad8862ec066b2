"""What one call of a primitive costs: rounds, bytes and local seconds, in each of the three phases.

Amounts are ints, floats or sympy expressions: a formula that is written once gives a number for numbers and a formula
for symbols. `bytes` are the totals over all links, both directions. `rounds` are what the protocol counts: rounds of
both parties speaking at once (CrypTen, mpcc) or one-way hops on the critical path (SPU). `messages` are all that the parties
send together; only the models of SPU count them, whose hops are fewer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

Amount: TypeAlias = Any  # int | float | sympy.Expr: mixed arithmetic of the three has no static type
Shape: TypeAlias = Sequence[Amount]


@dataclass(frozen=True)
class Work:
    """Rounds, bytes (both directions together), local seconds and messages (0: not counted) of one phase."""

    rounds: Amount = 0
    bytes: Amount = 0
    local_seconds: Amount = 0
    messages: Amount = 0

    def __add__(self, other: Work) -> Work:
        """One after the other."""
        return replace(self.beside(other), rounds=self.rounds + other.rounds, messages=self.messages + other.messages)

    def __mul__(self, times: Amount) -> Work:
        """The same, `times` times, one after the other."""
        return Work(self.rounds * times, self.bytes * times, self.local_seconds * times, self.messages * times)

    def beside(self, other: Work) -> Work:
        """In the same messages: the rounds of the longer one."""
        rounds, messages = larger(self.rounds, other.rounds), larger(self.messages, other.messages)
        return Work(rounds, self.bytes + other.bytes, self.local_seconds + other.local_seconds, messages)


@dataclass(frozen=True)
class Price:
    """`online`: from input to answer. `offline`: for each inference, before its input. `setup`: once a model."""

    online: Work = Work()
    offline: Work = Work()
    setup: Work = Work()

    @staticmethod
    def of(rounds: Amount, bytes: Amount, local_seconds: Amount = 0) -> Price:
        """A price that is all online."""
        return Price(Work(rounds, bytes, local_seconds))

    def __add__(self, other: Price) -> Price:
        return Price(self.online + other.online, self.offline + other.offline, self.setup + other.setup)

    def __mul__(self, times: Amount) -> Price:
        return Price(self.online * times, self.offline * times, self.setup * times)

    def beside(self, other: Price) -> Price:
        """In the same messages."""
        return Price(
            self.online.beside(other.online), self.offline.beside(other.offline), self.setup.beside(other.setup)
        )


FREE = Price()


@dataclass(frozen=True)
class Call:
    """One use of a primitive, as a formula sees it: shapes and visibility of the operands, shape of the output."""

    primitive: str
    shapes: tuple[tuple[Amount, ...], ...]
    visibility: tuple[str, ...]
    output: tuple[Amount, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def secret(self, operand: int) -> bool:
        """Whether that operand exists and is secret."""
        return operand < len(self.visibility) and self.visibility[operand] != "public"

    def size(self, operand: int) -> Amount:
        """Elements of that operand."""
        return elements(self.shapes[operand])

    @property
    def out(self) -> Amount:
        """Elements of the output."""
        return elements(self.output)

    def rows(self, dims: int | Sequence[int]) -> tuple[Amount, Amount]:
        """Operand 0 seen as rows: (rows, elements a row), where a row runs over `dims`."""
        shape = self.shapes[0]
        chosen = [dims] if isinstance(dims, int) else list(dims)
        columns = elements([shape[dim] for dim in chosen])
        others = {dim % len(shape) for dim in chosen}
        return elements([size for dim, size in enumerate(shape) if dim not in others]), columns


def elements(shape: Shape) -> Amount:
    """Product of the sizes."""
    return math.prod(shape)


def larger(first: Amount, second: Amount) -> Amount:
    """max, also of expressions."""
    if isinstance(first, int | float) and isinstance(second, int | float):
        return max(first, second)
    import sympy

    return sympy.Max(first, second)


def ceil_log2(count: Amount) -> Amount:
    """The depth of a binary tree over `count` leaves."""
    if isinstance(count, int):
        return max(count - 1, 0).bit_length()
    import sympy

    return sympy.ceiling(sympy.log(count, 2))


def broadcast(first: Shape, second: Shape) -> tuple[Amount, ...]:
    """The shape of an element-wise operation on the two (trusts that they fit)."""
    length = max(len(first), len(second))
    left = (1,) * (length - len(first)) + tuple(first)
    right = (1,) * (length - len(second)) + tuple(second)
    return tuple(b if a == 1 else a for a, b in zip(left, right, strict=True))
