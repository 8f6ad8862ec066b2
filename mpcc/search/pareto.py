"""The whole front: plans from the fastest to the most exact that no other one beats, published recipes among them.

    points = front(search, 8)

Budgets are spread evenly over the logarithm of the time between the fastest plan and the most exact one. Recipes
(`search.recipes`) are plans that people know: where no point is as fast as one and clearly better, the solver looks around
that recipe's own choices for the best plan within its time, and where that is not clearly better either the recipe is
itself a point. What a point loses is measured once more at the end, on more inputs than have chosen it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mpcc.approximate import LEVELS, Choice, Plan, Split
from mpcc.cost import Estimate
from mpcc.errors import MpccError, RangeError

from .candidates import Candidates
from .prices import structure
from .problem import Limit, Picks, Problem
from .recipes import compared
from .repair import SMALL, Trial, attempt, cheapest, corrected, least_damage
from .search import Search
from .task import Point

POINTS = 8
MOST_A_BUDGET = 3
CLEAR = 0.8
"""Damage this part of another's is clearly less: what is nearer may be the other way round on other inputs."""


@dataclass(frozen=True)
class Front:
    """`points` by rising seconds. Damage, in the unit of `damage`, and drops were measured on `images` calibration inputs."""

    points: tuple[Point, ...]
    baseline: Estimate
    damage: str
    drop: str
    images: int
    calibrated: bool


def front(search: Search, points: int = POINTS) -> list[Point]:
    """The points by rising seconds. A recipe is left out only where a point is as fast and clearly less damaging."""
    found = _judged(search, _spread(search, points))
    known = sorted(_recipes(search), key=_order)
    for step, recipe in enumerate(known):
        search.task.progress("recipes", step, len(known))
        if not any(covers(point, recipe) for _, point in found):
            found += _judged(search, _around(search, recipe))
    search.task.progress("recipes", len(known), len(known))
    sure: dict[Picks, Point] = {}
    while True:
        kept = undominated([*(point for _, point in found), *known])
        unsure = [trial for trial, point in found if trial.picks not in sure and any(point is other for other in kept)]
        if not unsure:
            return kept
        for trial in unsure:
            found = [(other, point) for other, point in found if other.picks != trial.picks]
            try:
                sure[trial.picks] = _seen(search, search.point(trial))
            except RangeError:
                continue
            found.append((trial, sure[trial.picks]))


def undominated(points: Sequence[Point]) -> list[Point]:
    """The points that none beats, and the recipes that none covers, by rising seconds."""
    kept: list[Point] = []
    for point in sorted(points, key=_order):
        better = all(point.damage < other.damage for other in kept)
        if better or (_named(point) and not any(covers(other, point) for other in kept)):
            kept.append(point)
    return kept


def covers(point: Point, other: Point) -> bool:
    """Whether a point is as fast as another and clearly less damaging, or does next to nothing, or is as good as the same."""
    own, seconds = float(point.estimate.seconds), float(other.estimate.seconds)
    clear = point.damage <= CLEAR * other.damage or max(point.damage, other.damage) <= SMALL
    return own <= seconds and (clear or (own == seconds and point.damage <= other.damage))


def _judged(search: Search, trials: Sequence[Trial]) -> list[tuple[Trial, Point]]:
    """Trials as points, at the price that the search goes by, without those that values leave which it did not see."""
    points = [Point(search.plan(t.picks), search.estimate(t.picks), t.damage, math.nan, t.predicted) for t in trials]
    seen = ((trial, _seen(search, point)) for trial, point in zip(trials, points, strict=True))
    return [(trial, point) for trial, point in seen if math.isfinite(point.damage)]


def _seen(search: Search, point: Point) -> Point:
    """The point with the damage and the drop that the judge sees."""
    damage, drop = search.judged(point.plan)
    return replace(point, damage=damage, drop=drop)


def _order(point: Point) -> tuple[float, float]:
    return float(point.estimate.seconds), point.damage


def _named(point: Point) -> bool:
    return "recipe" in point.plan.notes


def _spread(search: Search, points: int) -> list[Trial]:
    """Plans within budgets from the fastest plan's time to that of the most exact one."""
    fastest, search.problem = cheapest(search.problem, search.seconds, search.tools)
    trials = [fastest, search.exact]
    low, high = (search.measure(trial) for trial in trials)
    problem = search.problem.corrected_to(fastest.picks, fastest.work)
    for step in range(1, points - 1):
        search.task.progress("search", step, points)
        limit = Limit(search.seconds, low * (high / low) ** (step / (points - 1)))
        found, left = least_damage(problem, search.seconds, [limit], search.tools, trials, most=MOST_A_BUDGET)
        problem = problem.without_barred(left)  # damages as corrected for one budget mislead at the next
        trials += [trial for trial in found if trial not in trials]
    search.task.progress("search", points, points)
    return trials


def _recipes(search: Search) -> Iterator[Point]:
    """The recipes that the level allows and that can be made, as points."""
    for name in compared():
        try:
            plan = search.recipe(name)
            if not _allowed(search, plan):
                continue
            estimate = search.price(plan)
        except MpccError:
            continue
        damage, drop = search.judged(plan)
        if math.isfinite(damage):
            yield Point(plan, estimate, damage, drop, damage)


def _allowed(search: Search, plan: Plan) -> bool:
    deepest = LEVELS.index(search.task.level)
    used = {choice.approximation for entry in plan.choices.values() for choice in entry.choices}
    return all(LEVELS.index(search.known[name].level) <= deepest for name in used)


def _around(search: Search, recipe: Point) -> list[Trial]:
    """Plans as fast as a recipe, from a problem that is corrected by what the plan nearest to it costs and does."""
    known: list[Trial] = []
    problem = start = attempt(search.problem, _nearest(search, recipe.plan), search.tools)
    if isinstance(start, Trial):
        known.append(start)
        problem = search.problem.corrected_to(start.picks, start.work)
        problem = corrected(problem, start.picks, start.damage, search.tools.without(start.picks))
    assert isinstance(problem, Problem)
    limits = [Limit(search.seconds, float(recipe.estimate.seconds))]
    found, _ = least_damage(problem, search.seconds, limits, search.tools, known, MOST_A_BUDGET)
    return [*known, *(trial for trial in found if trial not in known)]


def _nearest(search: Search, plan: Plan) -> Picks:
    """For every part of every site the member most like what a plan has there."""
    return tuple(
        _like(entry, _at(plan.choices[site], group))
        for site, entry in search.candidates.items()
        for group in search.parts[site].groups
    )


def _at(entry: Choice | Split, group: Sequence[int]) -> Choice:
    """What most of these positions of a site have."""
    if isinstance(entry, Choice):
        return entry
    own = [part.choice for part in entry.parts for place in part.index if place in group]
    return max(own or entry.choices, key=own.count)


def _like(entry: Candidates, choice: Choice) -> int:
    """The member of the same approximation, best of the same structure; the least damaging one where there is none."""

    def far(index: int) -> tuple[bool, bool, float]:
        member = entry.members[index]
        other = member.choice.approximation != choice.approximation
        return other, structure(member.choice.options) != structure(choice.options), member.damage

    return min(range(len(entry.members)), key=far)
