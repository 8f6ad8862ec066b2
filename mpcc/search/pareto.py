"""The whole front: plans from the fastest to the most exact that no other one beats, published recipes among them.

    front(Search.of(task), baseline, 8).points

Budgets are spread evenly over the logarithm of the time between the fastest plan and the most exact one. Recipes
(`search.recipes`) are plans that people know: the time of each is a budget too, and where no point is as fast and clearly
better, the recipe is itself a point. So is the plan without a search, unless another one is as fast and as exact. What a point
loses is measured on inputs that measured nothing before, where there are enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mpcc.cost import Budget, Estimate

from .known import Known
from .moves import SMALL
from .questions import Asked
from .search import Search
from .task import Point

POINTS = 8
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
    known = Known(search.trials)
    asked = Asked(search, known, search.trials.speed, known.accurate)
    tell, explorer = search.trials.task.progress, asked.explorer
    lowest, _ = search.cheapest(search.trials.speed)
    low, high = explorer.cost(lowest), explorer.cost(search.exact)
    for picks in (lowest, search.exact):
        explorer.attempt(picks, always=True)
    asked.points += [point for point in map(asked.point, (lowest, search.exact)) if point is not None]
    asked.try_recipes()
    recipes = [point for point in map(known.point, known.recipes) if point is not None]
    asked.points += recipes
    explorer.descend(low)
    times = [low * (high / low) ** (step / (points - 1)) for step in range(1, points - 1)]
    times += [float(point.estimate.seconds) for point in recipes]
    for step, most in enumerate(sorted(times, reverse=True)):
        tell("search", step, len(times))
        asked.settle(Budget(most, "seconds"), explorer.effort.left // (len(times) - step))
    tell("search", len(times), len(times))
    return undominated([point for point in asked.points if math.isfinite(point.loss)])


def undominated(points: Sequence[Point]) -> list[Point]:
    """The points that none beats, and the recipes that none covers, by rising seconds."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda one: (float(one.estimate.seconds), one.loss)):
        better = all(point.loss < other.loss for other in kept)
        if better or (_named(point) and not any(covers(other, point) for other in kept)):
            kept.append(point)
    return kept


def covers(point: Point, other: Point) -> bool:
    """Whether a point is as fast as another and of clearly less loss, or does next to nothing, or is as good as the same."""
    own, seconds = float(point.estimate.seconds), float(other.estimate.seconds)
    clear = point.loss <= CLEAR * other.loss or max(point.loss, other.loss) <= SMALL
    return own <= seconds and (clear or (own == seconds and point.loss <= other.loss))


def _named(point: Point) -> bool:
    return "recipe" in point.plan.notes
