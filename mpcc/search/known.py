"""Plans that answers are held against: the one without a search, published recipes, the one that the user starts from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mpcc.approximate import LEVELS, Choice, Plan, Split
from mpcc.approximate.expand import check_sites
from mpcc.errors import MpccError, RangeError, UsageError

from .candidates import Candidates
from .prices import structure
from .problem import Picks
from .recipes import compared
from .space import Space
from .task import Point
from .trials import Trials


@dataclass(frozen=True)
class Recipe:
    """The plan of a recipe, what it does on the inputs that judge, and the picks that are most like it."""

    plan: Plan
    loss: float
    drop: float
    nearest: Picks


class Known:
    """Made and judged when they are first asked for."""

    def __init__(self, trials: Trials) -> None:
        self.trials = trials
        self._points: dict[str, Point | None] = {}

    @cached_property
    def accurate(self) -> Point | None:
        """The plan without a search. None where the level has none that can be made."""
        task = replace(self.trials.task, program=self.trials.task.draft_program)
        if task.accurate is None:
            return None
        try:
            found = task.accurate(task)
        except MpccError:
            return None
        loss, drop = self.trials.judge(found.plan)
        return Point(found.plan, found.estimate, loss, drop, loss)

    @cached_property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes that the level allows, where there is time to make them, and the plan to start from; the best first."""
        found = [*self._start(), *(() if self.trials.task.large else self._recipes())]
        return tuple(sorted(found, key=lambda recipe: recipe.loss))

    def _start(self) -> Iterator[Recipe]:
        """The plan that the task starts from. UsageError where it changes more than is allowed, RangeError for NaN."""
        plan = self.trials.task.start
        if plan is None:
            return
        check_sites(self.trials.task.graph, plan)
        if not self._allowed(plan):
            what = f"the plan to start from changes more than level {self.trials.task.level}, keep and only allow"
            raise UsageError(what, hint="Choose a deeper level, or another plan.")
        loss, drop = self.trials.judge(plan)
        if not math.isfinite(loss):
            raise RangeError("the plan to start from gives NaN or infinite values on the calibration inputs")
        yield Recipe(plan, loss, drop, nearest(self.trials.space, plan))

    def _recipes(self) -> Iterator[Recipe]:
        for name in compared():
            try:
                plan = self.trials.judge.recipe(name)
                if not self._allowed(plan):
                    continue
                loss, drop = self.trials.judge(plan)
            except MpccError:
                continue
            if math.isfinite(loss):
                yield Recipe(plan, loss, drop, nearest(self.trials.space, plan))

    def point(self, recipe: Recipe) -> Point | None:
        """A recipe with its exact price; None where no program can be made."""
        key = recipe.plan.key
        if key not in self._points:
            try:
                estimate = self.trials.price(recipe.plan)
                self._points[key] = Point(recipe.plan, estimate, recipe.loss, recipe.drop, recipe.loss)
            except MpccError:
                self._points[key] = None
        return self._points[key]

    def _allowed(self, plan: Plan) -> bool:
        known, task = self.trials.known, self.trials.task
        return all(
            LEVELS.index(known[choice.approximation].level) <= LEVELS.index(task.level_at(site))
            for site, entry in plan.choices.items() for choice in entry.choices
        )  # fmt: skip


def nearest(space: Space, plan: Plan) -> Picks:
    """For every part of every site the candidate most like what a plan has there."""
    rows = ((entry, plan.choices[site], space.parts[site].groups) for site, entry in space.candidates.items())
    return tuple(_like(entry, _at(chosen, group)) for entry, chosen, groups in rows for group in groups)


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
