"""The questions that a search answers: the best plan within a budget, the fastest within a drop, the cheapest of all.

Each takes a search and gives its answer with the search as it is afterwards: trials correct the problem, and options that
cannot be made are barred. The search that was given stays as it was.
"""

from __future__ import annotations

from dataclasses import replace

from mpcc.cost import Budget, Estimate
from mpcc.errors import BudgetError, RangeError

from .pricing import weights_of
from .problem import Limit, Picks, Problem
from .repair import LOSS, MOST_TRIALS, Trial, attempt, banned, cheapest, least_loss, picked
from .search import Search
from .task import Chosen

BISECTIONS = 12
"""Halvings, on a logarithmic scale, of the loss that is allowed: of a span of 1e12 they leave a factor of 1.007."""
MOST_SETTLED = 16
"""Plans that may fail, or miss the budget, once they are fitted to all inputs: only those of large models can, and each bars an
option or tightens the budget. It bounds the time; after it the answer is that the budget cannot be met."""
MOST_BLIND, BLIND_AIM = 3, 0.98
"""Trials where losses were not measured: the first that meets the budget is the answer, so that aiming a little below it saves
whole programs that miss it by a hair."""


def best_within_budget(search: Search, budget: Budget) -> tuple[Chosen | None, Search]:
    """The plan of least loss within a budget; None if there is none at this level."""
    trials = search.trials
    trials.task.progress("search", 0, 1)
    tight, answer = budget, None
    for _ in range(MOST_SETTLED):
        met, search = _meeting(search, tight)
        if not met:
            break
        trial = min(met, key=lambda t: (t.loss, trials.seconds(t)))
        try:
            point = trials.point(trial)
        except RangeError as error:
            search = replace(search, problem=banned(search.problem, trial.picks, error))
            continue
        if budget.met_by(point.estimate):
            answer = trials.chosen(point, trials.tried)
            break
        tight = replace(tight, amount=tight.amount * budget.amount / budget.spent(point.estimate))
    trials.task.progress("search", 1, 1)
    return answer, search


def _meeting(search: Search, budget: Budget) -> tuple[list[Trial], Search]:
    """Trials within a budget, among them the best that is found."""
    trials, speed, tools = search.trials, search.trials.speed, search.trials.tools
    measured = trials.measurements.sensitivity_measured
    limits = [Limit(weights_of(budget, speed), budget.amount if measured else BLIND_AIM * budget.amount)]
    found: list[Trial] = []
    problem = search.problem
    for at_once in (MOST_TRIALS,) if measured else (1,) * MOST_BLIND:
        more, problem = least_loss(problem, speed, limits, tools, found, at_once)
        found += more
        met = [trial for trial in found if budget.met_by(trials.estimate(trial.picks))]
        if met:
            return met, search
    fastest, problem = cheapest(problem, limits[0].weights, tools)
    search = replace(search, problem=problem)
    if not budget.met_by(trials.estimate(fastest.picks)):
        return [], search
    exact = problem.corrected_to(fastest.picks, fastest.work)
    more, _ = least_loss(exact, speed, limits, tools, [*found, fastest], MOST_TRIALS if measured else MOST_BLIND)
    return [t for t in [*more, fastest] if budget.met_by(trials.estimate(t.picks))], search


def cheapest_cost(search: Search, budget: Budget) -> Estimate:
    """What the plan takes that costs least in the unit of a budget, whatever it loses."""
    trial, _ = cheapest(search.problem, weights_of(budget, search.trials.speed), search.trials.tools)
    return search.trials.estimate(trial.picks)


def fastest_within_drop(search: Search, most: float) -> tuple[Chosen, Search]:
    """The fastest plan whose accuracy drop is no more than `most`. BudgetError where there is none."""
    trials, tools = search.trials, search.trials.tools
    while True:
        problem = search.problem
        best, allowed, seen = _bisected(search, most)
        trial = attempt(problem, best, tools)
        if isinstance(trial, Problem):  # a choice that cannot be scheduled: without it
            search = replace(search, problem=trial)
            continue
        finer = picked(problem, trials.speed, [Limit(LOSS, allowed)], in_parts=True)
        if finer is not None and finer not in seen and trials.drop(finer) <= most:
            other = attempt(problem, finer, tools)
            trial = min((t for t in (trial, other) if isinstance(t, Trial)), key=trials.seconds)
        try:
            return trials.chosen(trials.point(trial), len(seen)), search
        except RangeError as error:
            search = replace(search, problem=banned(problem, trial.picks, error))


def _bisected(search: Search, most: float) -> tuple[Picks, float, dict[Picks, float]]:
    """By bisection on the loss that is allowed: the fastest picks within the drop, the loss allowed then, drops by picks."""
    trials, problem, exact = search.trials, search.problem, search.exact.picks
    worst = sum(max(o.loss for o in slot.options if o.usable) for slot in problem.slots)
    low = max(problem.loss(exact), 1e-12)
    high, best = max(worst, 2 * low), exact if trials.drop(exact) <= most else None
    seen: dict[Picks, float] = {}
    for step in range(BISECTIONS):
        trials.task.progress("search", step, BISECTIONS)
        allowed = high if step == 0 else (low * high) ** 0.5
        picks = picked(problem, trials.speed, [Limit(LOSS, allowed)], in_parts=False)
        if picks is not None and picks not in seen:
            seen[picks] = trials.drop(picks)
        if picks is None or seen[picks] <= most:
            best, low = best if picks is None else picks, allowed
        else:
            high = allowed
        if best is not None and step == 0 and picks == best:
            break
    trials.task.progress("search", BISECTIONS, BISECTIONS)
    if best is None:
        raise BudgetError(
            f"no plan of level {trials.task.level} loses less than {most:.3g} ({trials.task.metric.drop_name})",
            hint=f"The most exact one loses {trials.drop(exact):.3g} on {trials.judge.images} inputs.",
        )
    return best, low, seen
