"""The whole front: plans from the fastest to the most exact that no other one beats, published recipes among them.

    front(Search.of(task), baseline, 8).points

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
from .problem import Limit, Picks
from .recipes import compared
from .repair import SMALL, Trial, attempt, cheapest, corrected, least_loss
from .search import Search
from .task import Point

POINTS = 8
MOST_A_BUDGET = 3
CLEAR = 0.8
"""Loss this part of another's is clearly less: what is nearer may be the other way round on other inputs."""


@dataclass(frozen=True)
class Front:
    """`points` by rising seconds. Loss, in the unit of `loss`, and drops were measured on `images` calibration inputs."""

    points: tuple[Point, ...]
    baseline: Estimate
    loss: str
    drop: str
    images: int
    calibrated: bool


def front(search: Search, baseline: Estimate, points: int = POINTS) -> Front:
    """The front of a search, whose plans say what they were made for."""
    task, judge = search.trials.task, search.trials.judge
    notes = {**task.notes, "made_by": "search"}
    found = [replace(p, plan=replace(p.plan, notes={**notes, **p.plan.notes})) for p in front_points(search, points)]
    return Front(tuple(found), baseline, task.metric.name, task.metric.drop_name, judge.images, task.calibrated)


def front_points(search: Search, points: int = POINTS) -> list[Point]:
    """The points by rising seconds. A recipe is left out only where a point is as fast and its loss is clearly less."""
    tried, search = _spread(search, points)
    task, found = search.trials.task, _judged(search, tried)
    known = sorted(_recipes(search), key=_order)
    for step, recipe in enumerate(known):
        task.progress("recipes", step, len(known))
        if not any(covers(point, recipe) for _, point in found):
            found += _judged(search, _around(search, recipe))
    task.progress("recipes", len(known), len(known))
    sure: dict[Picks, Point] = {}
    while True:
        kept = undominated([*(point for _, point in found), *known])
        unsure = [trial for trial, point in found if trial.picks not in sure and any(point is other for other in kept)]
        if not unsure:
            return kept
        for trial in unsure:
            found = [(other, point) for other, point in found if other.picks != trial.picks]
            try:
                sure[trial.picks] = _seen(search, search.trials.point(trial))
            except RangeError:
                continue
            found.append((trial, sure[trial.picks]))


def undominated(points: Sequence[Point]) -> list[Point]:
    """The points that none beats, and the recipes that none covers, by rising seconds."""
    kept: list[Point] = []
    for point in sorted(points, key=_order):
        better = all(point.loss < other.loss for other in kept)
        if better or (_named(point) and not any(covers(other, point) for other in kept)):
            kept.append(point)
    return kept


def covers(point: Point, other: Point) -> bool:
    """Whether a point is as fast as another and of clearly less loss, or does next to nothing, or is as good as the same."""
    own, seconds = float(point.estimate.seconds), float(other.estimate.seconds)
    clear = point.loss <= CLEAR * other.loss or max(point.loss, other.loss) <= SMALL
    return own <= seconds and (clear or (own == seconds and point.loss <= other.loss))


def _judged(search: Search, trials: Sequence[Trial]) -> list[tuple[Trial, Point]]:
    """Trials as points, at the price that the search goes by, without those that values leave which it did not see."""
    made = search.trials
    points = [Point(made.plan(t.picks), made.estimate(t.picks), t.loss, math.nan, t.predicted) for t in trials]
    seen = ((trial, _seen(search, point)) for trial, point in zip(trials, points, strict=True))
    return [(trial, point) for trial, point in seen if math.isfinite(point.loss)]


def _seen(search: Search, point: Point) -> Point:
    """The point with the loss and the drop that the judge sees."""
    loss, drop = search.trials.judge(point.plan)
    return replace(point, loss=loss, drop=drop)


def _order(point: Point) -> tuple[float, float]:
    return float(point.estimate.seconds), point.loss


def _named(point: Point) -> bool:
    return "recipe" in point.plan.notes


def _spread(search: Search, points: int) -> tuple[list[Trial], Search]:
    """Plans within budgets from the fastest plan's time to that of the most exact one; the search without what cannot be made."""
    trials, speed, tools = search.trials, search.trials.speed, search.trials.tools
    fastest, problem = cheapest(search.problem, speed, tools)
    search = replace(search, problem=problem)
    tried = [fastest, search.exact]
    low, high = (trials.seconds(trial) for trial in tried)
    problem = problem.corrected_to(fastest.picks, fastest.work)
    for step in range(1, points - 1):
        trials.task.progress("search", step, points)
        limit = Limit(speed, low * (high / low) ** (step / (points - 1)))
        found, left = least_loss(problem, speed, [limit], tools, tried, most=MOST_A_BUDGET)
        problem = problem.without_barred(left)  # losses as corrected for one budget mislead at the next
        tried += [trial for trial in found if trial not in tried]
    trials.task.progress("search", points, points)
    return tried, search


def _recipes(search: Search) -> Iterator[Point]:
    """The recipes that the level allows and that can be made, as points."""
    for name in compared():
        try:
            plan = search.trials.judge.recipe(name)
            if not _allowed(search, plan):
                continue
            estimate = search.trials.price(plan)
        except MpccError:
            continue
        loss, drop = search.trials.judge(plan)
        if math.isfinite(loss):
            yield Point(plan, estimate, loss, drop, loss)


def _allowed(search: Search, plan: Plan) -> bool:
    deepest = LEVELS.index(search.trials.task.level)
    used = {choice.approximation for entry in plan.choices.values() for choice in entry.choices}
    return all(LEVELS.index(search.trials.known[name].level) <= deepest for name in used)


def _around(search: Search, recipe: Point) -> list[Trial]:
    """Plans as fast as a recipe, from a problem that is corrected by what the plan nearest to it costs and does."""
    speed, tools = search.trials.speed, search.trials.tools
    known: list[Trial] = []
    start = attempt(search.problem, _nearest(search, recipe.plan), tools)
    if isinstance(start, Trial):
        known.append(start)
        problem = search.problem.corrected_to(start.picks, start.work)
        problem = corrected(problem, start.picks, start.loss, tools.without(start.picks))
    else:
        problem = start
    limits = [Limit(speed, float(recipe.estimate.seconds))]
    found, _ = least_loss(problem, speed, limits, tools, known, MOST_A_BUDGET)
    return [*known, *(trial for trial in found if trial not in known)]


def _nearest(search: Search, plan: Plan) -> Picks:
    """For every part of every site the candidate most like what a plan has there."""
    space = search.trials.space
    return tuple(
        _like(entry, _at(plan.choices[site], group))
        for site, entry in space.candidates.items()
        for group in space.parts[site].groups
    )


def _at(entry: Choice | Split, group: Sequence[int]) -> Choice:
    """What most of these positions of a site have."""
    if isinstance(entry, Choice):
        return entry
    own = [part.choice for part in entry.parts for place in part.index if place in group]
    return max(own or entry.choices, key=own.count)


def _like(entry: Candidates, choice: Choice) -> int:
    """The candidate of the same approximation, best of the same structure; the one of least loss where there is none."""

    def far(index: int) -> tuple[bool, bool, float]:
        candidate = entry.kept[index]
        other = candidate.choice.approximation != choice.approximation
        return other, structure(candidate.choice.options) != structure(choice.options), candidate.loss

    return min(range(len(entry.kept)), key=far)
