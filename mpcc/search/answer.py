"""The plan that an objective asks for, or what can be had instead."""

from __future__ import annotations

from dataclasses import replace

from mpcc.approximate import LEVELS
from mpcc.cost import Budget
from mpcc.errors import BudgetError, MpccError

from .pricing import reached
from .questions import best_within_budget, cheapest_cost, fastest_within_drop
from .search import Search
from .task import Chosen, Task


def searched(task: Task, budget: Budget | None, max_drop: float | None) -> Chosen:
    """The search's answer; BudgetError with what can be met at each level."""
    search = Search.of(task)
    if budget is None:
        assert max_drop is not None
        return fastest_within_drop(search, max_drop)
    found = best_within_budget(search, budget)
    if found is None:
        raise BudgetError(
            f"the budget of {budget} cannot be met at level {task.level} on {task.network.name}",
            hint="What can be met: " + "; ".join(_offers(search, budget)),
        )
    if max_drop is not None and found.point.drop > max_drop:
        raise BudgetError(
            f"the budget of {budget} costs {found.point.drop:.3g} ({found.metric.drop_name}), more than {max_drop:.3g}",
            hint="Raise the budget, or the accuracy drop that you accept.",
        )
    return found


def _offers(search: Search, budget: Budget) -> list[str]:
    """What the cheapest plan of this level and of each deeper one takes."""
    task = search.trials.task
    offers = [f"--level {task.level}: {reached(cheapest_cost(search, budget))}"]
    for deeper in LEVELS[LEVELS.index(task.level) + 1 :]:
        try:
            cost = cheapest_cost(Search.of(replace(task, level=deeper)), budget)
            offers.append(f"--level {deeper}, before training: {reached(cost)}")
        except MpccError as error:
            offers.append(f"--level {deeper}: nothing without training ({error.what})")
    return offers
