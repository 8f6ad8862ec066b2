"""The budget of one private inference: a bound on its online seconds, bytes or rounds.

Budget.parse("2s")  Budget.parse("500ms")  Budget.parse("30MB")  Budget.parse("150rounds")
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, Protocol

from mpcc.errors import UsageError

Unit = Literal["seconds", "bytes", "rounds"]

_UNITS: dict[str, tuple[float, Unit]] = {
    "us": (1e-6, "seconds"),
    "ms": (1e-3, "seconds"),
    "s": (1.0, "seconds"),
    "min": (60.0, "seconds"),
    "B": (1.0, "bytes"),
    "kB": (1e3, "bytes"),
    "MB": (1e6, "bytes"),
    "GB": (1e9, "bytes"),
    "round": (1.0, "rounds"),
    "rounds": (1.0, "rounds"),
}
_FORM = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*")
_HINT = "a budget is a number and a unit: 2s, 500ms, 30MB or 150rounds"


class Spent(Protocol):
    """What a budget bounds: anything with online rounds, bytes and seconds."""

    @property
    def rounds(self) -> float: ...
    @property
    def bytes(self) -> float: ...
    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True)
class Budget:
    """At most `amount` of `unit` in the online phase of one inference."""

    amount: float
    unit: Unit

    @staticmethod
    def parse(text: str | Budget) -> Budget:
        """A number and a unit. UsageError for another unit, a missing one, and for what is not above zero."""
        if isinstance(text, Budget):
            return text
        if not isinstance(text, str):
            raise UsageError(f"invalid budget {text!r}: a number has no unit", hint=_HINT)
        match = _FORM.fullmatch(text)
        if match is None:
            raise UsageError(f"invalid budget {text!r}", hint=_HINT)
        if match[2] not in _UNITS:
            what = f"unknown unit {match[2]!r}" if match[2] else "the unit is missing"
            raise UsageError(f"invalid budget {text!r}: {what} (units: {', '.join(_UNITS)})", hint=_HINT)
        factor, unit = _UNITS[match[2]]
        amount = float(match[1]) * factor
        if amount == math.inf:
            raise UsageError(f"a budget of {text.strip()!r} bounds nothing", hint=_HINT)
        if not amount > 0:
            raise UsageError(f"a budget of {text.strip()!r} can never be met: it must be more than zero", hint=_HINT)
        return Budget(amount, unit)

    def spent(self, cost: Spent) -> float:
        """What `cost` takes, in this budget's unit."""
        return float(getattr(cost, self.unit))

    def met_by(self, cost: Spent) -> bool:
        """Whether `cost` stays within the budget."""
        return self.spent(cost) <= self.amount

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"
