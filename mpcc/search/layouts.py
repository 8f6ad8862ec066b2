"""The same plan laid out in other orders: equal functions, other prices."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from mpcc.approximate import Approximation, Choice, Plan
from mpcc.ir.nn import site_operator

MOST_LAYOUTS = 8
"""Each is lowered and priced: all subsets of three operators, more than any model here has with such an option."""


def layouts(plan: Plan, approximations: Mapping[str, Approximation]) -> list[Plan]:
    """The same functions in other orders: row factors multiplied first (fewer bytes) or one by one (fewer rounds)."""

    def option(choice: Choice) -> str:
        """The option that says so (`Approximation.layout`), if the choice has it."""
        found = approximations.get(choice.approximation)
        return found.layout if found is not None and found.layout in choice.options else ""

    def one_by_one(choice: Choice) -> Choice:
        name = option(choice)
        return Choice(choice.approximation, {**choice.options, name: False}) if name else choice

    kinds = sorted({site_operator(site) for site, entry in plan.choices.items() if any(map(option, entry.choices))})
    plans = [plan]
    for count in range(1, len(kinds) + 1):
        for chosen in itertools.combinations(kinds, count):
            plans.append(Plan({s: c.map(one_by_one) if site_operator(s) in chosen else c for s, c in plan.choices.items()}))
    return plans[:MOST_LAYOUTS]
