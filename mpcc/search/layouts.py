"""The same plan laid out in other orders: equal functions, other prices."""

from __future__ import annotations

import itertools

from mpcc.approximate import Choice, Plan
from mpcc.ir.nn import site_operator


def layouts(plan: Plan) -> list[Plan]:
    """The same functions in other orders: row factors multiplied first (fewer bytes) or one by one (fewer rounds)."""
    kinds = sorted({site_operator(site) for site, entry in plan.choices.items() for c in entry.choices if "joined" in c.options})
    plans = [plan]
    for count in range(1, len(kinds) + 1):
        for chosen in itertools.combinations(kinds, count):
            plans.append(Plan({s: c.map(_one_by_one) if site_operator(s) in chosen else c for s, c in plan.choices.items()}))
    return plans[:8]


def _one_by_one(choice: Choice) -> Choice:
    return Choice(choice.approximation, {**choice.options, "joined": False}) if "joined" in choice.options else choice
