"""The same plan laid out in other orders: equal functions, other prices."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from mpcc.approximate import Approximation, Choice, Plan
from mpcc.ir.nn import site_operator

MOST_LAYOUTS = 8
"""Each is lowered and priced: all subsets of three operators, more than any model here has with such an option."""


def laid_out(choice: Choice, approximations: Mapping[str, Approximation]) -> tuple[Choice, ...]:
    """The choice, and where its approximation has two layouts (`Approximation.layout`) the one whose factors go one by one."""
    found = approximations.get(choice.approximation)
    if found is None or found.layout not in choice.options:
        return (choice,)
    return choice, Choice(choice.approximation, {**choice.options, found.layout: False})


def layouts(plan: Plan, approximations: Mapping[str, Approximation]) -> list[Plan]:
    """The same functions in other orders: row factors multiplied first (fewer bytes) or one by one (fewer rounds)."""

    def one_by_one(choice: Choice) -> Choice:
        return laid_out(choice, approximations)[-1]

    def two(choice: Choice) -> bool:
        return len(laid_out(choice, approximations)) > 1

    kinds = sorted({site_operator(site) for site, entry in plan.choices.items() if any(map(two, entry.choices))})
    plans = [plan]
    for count in range(1, len(kinds) + 1):
        for chosen in itertools.combinations(kinds, count):
            plans.append(Plan({s: c.map(one_by_one) if site_operator(s) in chosen else c for s, c in plan.choices.items()}))
    return plans[:MOST_LAYOUTS]
