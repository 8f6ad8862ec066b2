"""The questions that a search answers: the best plans within budgets, the fastest within a drop, the cheapest of all.

An answer is never worse, on the inputs that judge, than the plan without a search, a recipe, or a plan tried for another budget
of the same question, where these meet its budget. The search that was asked stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mpcc.compensate.compensated import structural_sites
from mpcc.cost import Budget, Estimate
from mpcc.errors import BudgetError, RangeError

from .bars import banned, barred
from .known import Known
from .moves import SMALL
from .pricing import weights_of
from .problem import Picks, Weights
from .runaway import Runaway
from .search import Search
from .task import Chosen, Point

LISTED, MOST_MADE = 6, 12
"""Plans judged, of the best that were tried within a budget, of which the best is made a whole program; and programs that may
turn out to miss it, or not to be possible, on the way to one. To judge a plan takes as long as three runs, to make its program
as long as thirty to fifty (0.1 s and 4.7 s of processor time on benchmarks/zoo's pre_norm)."""
CLOSE = 1.5
"""Times the loss of the best one: plans within it may be the better ones on other inputs, and are judged too."""
PHASES = (0.6, 0.4)
"""Parts of the runs before the best plans of a budget are made, and after."""
FAR, FEW = 0.6, 2
"""The part of the most exact plan's cost below which budgets may be met by no plan at all, and of large models by none without a
search, so that its layouts need not be made; and of large models programs for one step."""
BELOW = 0.93
"""Times the cost of the plan that the sum over sites finds cheapest: programs of others may cost less than their sums, by 5 % at
most among 20 of registers, a model of benchmarks/zoo."""
NEARLY = 1.1
"""Times a budget, up to which a recipe is priced exactly: the picks most like it cost about the same."""
STEPS = 5
"""Budgets that are tried, by bisection, for the fastest plan within a drop, once it is known between which steps of the descent
it lies: they leave a span of RATIO to the power of 1/32, half a percent."""
HARMLESS = 0.01
"""A drop that most people would accept: where an answer is far from it, the plan that keeps it is named."""
TOO_FAR = 3.0
"""Times the accepted drop, at which a descent ends: what is cheaper loses more."""


def best_within_budget(search: Search, budget: Budget) -> Chosen | None:
    """The plan of least loss within a budget; None if there is none at this level."""
    return best_within_budgets(search, [budget])[0]


def best_within_budgets(search: Search, budgets: Sequence[Budget]) -> list[Chosen | None]:
    """The plans of least loss within each budget; None where there is none at this level. They share what is tried.

    A budget that the plan without a search meets changes nothing.
    """
    known, found = Known(search.trials), dict[Budget, Chosen | None]()
    units = dict.fromkeys(budget.unit for budget in budgets)
    for unit in units:
        group = {budget for budget in budgets if budget.unit == unit}
        weights = weights_of(Budget(1.0, unit), search.trials.speed)
        far = search.trials.task.large and max(b.amount for b in group) < FAR * weights.of(search.trials.work(search.exact), 0.0)
        accurate = None if far else known.accurate
        asked = Asked(search, known, weights, accurate, 1 / len(units))
        easy = {b: asked.chosen(accurate) for b in group if accurate is not None and b.met_by(accurate.estimate)}
        hard = sorted(group - easy.keys(), key=lambda budget: -budget.amount)
        found |= easy | (asked.within(hard) if hard else {})
    return [found[budget] for budget in budgets]


class Asked:
    """One question: what was tried for it, and the plans that were made of that."""

    def __init__(self, search: Search, known: Known, weights: Weights, accurate: Point | None, part: float = 1.0) -> None:
        self.search, self.trials, self.known, self.weights = search, search.trials, known, weights
        self.explorer = search.explorer(weights, part)
        self.accurate = accurate
        self.points = [] if accurate is None else [accurate]
        self.made: set[Picks] = set()

    def within(self, budgets: Sequence[Budget]) -> dict[Budget, Chosen | None]:
        """The best plan within each of some budgets of one unit, the loosest first."""
        tell, explorer = self.trials.task.progress, self.explorer
        tell("search", 0, len(budgets) + 1)
        lowest = self.lowest(budgets[-1].amount)
        near = [budget for budget in budgets if budget.amount >= lowest] or budgets[:1]
        explorer.effort.allow(len(near) - 1)
        self.try_recipes()
        explorer.descend(near[-1].amount)
        for done, budget in enumerate(near):
            tell("search", done + 1, len(budgets) + 1)
            self.settle(budget, explorer.effort.left // (len(near) - done))
        tell("search", len(budgets) + 1, len(budgets) + 1)
        return {budget: self.answer(budget) for budget in budgets}

    def lowest(self, amount: float) -> float:
        """What no plan is likely to cost less than: budgets below it are given no runs. 0 where `amount` is not far down."""
        explorer = self.explorer
        if amount >= FAR * explorer.cost(self.search.exact):
            return 0.0
        picks, _ = self.search.cheapest(self.weights)
        explorer.priced(picks, self.trials.work(picks))
        summed, exact = self.weights.of(self.search.problem.work(picks), 0.0), explorer.cost(picks)
        return BELOW * (exact if exact <= NEARLY * summed else summed)  # far above its sum: then other plans may well cost less

    def try_recipes(self) -> None:
        """Run what is nearest to each recipe: a start like any other."""
        for recipe in self.known.recipes:
            self.explorer.attempt(recipe.nearest)

    def settle(self, budget: Budget, runs: int) -> None:
        """Improve on the plans within a budget, and make programs of the best."""
        self.price_best(budget)
        for part in PHASES:
            self.explorer.improve(budget.amount, int(part * runs))
            self.points += self.make(budget)
        if not any(budget.met_by(point.estimate) for point in self.points):
            self.points += self.make_cheapest(budget)

    def price_best(self, budget: Budget) -> None:
        """Make one program first: then costs near it are exact."""
        best = next(iter(self.explorer.ranked(budget.amount)), None)
        if best is not None and best not in self.made and not self.trials.task.large:
            point = self.point(best)
            self.points += [] if point is None else [point]

    def make(self, budget: Budget) -> Iterator[Point]:
        """The best plan within a budget that is no program yet, on the inputs that judge, as a program."""
        for _ in range(MOST_MADE):
            picks = self.listed(budget)
            if picks is None:
                return
            point = self.point(picks)
            if point is not None and budget.met_by(point.estimate):
                yield point
                return

    def listed(self, budget: Budget) -> Picks | None:
        """Of the best plans that were tried within a budget, and are no programs yet, the one that judges find best."""
        explorer = self.explorer
        ranked = [picks for picks in explorer.ranked(budget.amount) if picks not in self.made]
        if not ranked:
            return None
        most = CLOSE * explorer.tried[ranked[0]].loss + SMALL
        close = [picks for picks in ranked[: 1 if self.trials.task.large else LISTED] if explorer.tried[picks].loss <= most]
        return close[0] if len(close) == 1 else min(close, key=self._judged)

    def _judged(self, picks: Picks) -> float:
        """The loss on the inputs that judge; infinite where the plan cannot be made."""
        try:
            return self.trials.judge(self.trials.plan(picks))[0]
        except RangeError:
            return math.inf

    def point(self, picks: Picks) -> Point | None:
        """Picks as a point; None where no program can be made: then without what is to blame, or these choices up to there."""
        self.made.add(picks)
        try:
            self.trials.examined(picks)
            self.explorer.priced(picks, self.trials.work(picks))
            return self.trials.point(picks, self.explorer.tried[picks].loss)
        except RangeError as error:
            if isinstance(error, Runaway) and error.causes:
                self.explorer.problem = banned(self.explorer.problem, picks, error)
            self.explorer.refuse(picks, error.where or "")
            return None

    def make_cheapest(self, budget: Budget) -> Iterator[Point]:
        """Where nothing within the budget was found: the cheapest plan, and what can be had from there."""
        explorer = self.explorer
        picks, explorer.problem = self.search.cheapest(self.weights)
        explorer.priced(picks, self.trials.work(picks))
        if explorer.cost(picks) <= budget.amount:
            explorer.attempt(picks, always=True)
            explorer.improve(budget.amount, explorer.effort.left)
            yield from self.make(budget)
            point = self.point(picks)
            if point is not None:
                yield point

    def kept(self, most: float, limit: float) -> Point | None:
        """The fastest plan, within a time, that loses no more than accepted on the inputs that measure and those that judge."""
        explorer = self.explorer
        for _ in range(FEW if self.trials.task.large else MOST_MADE):
            row = [p for p in explorer.ranked(limit) if explorer.tried[p].drop <= most and p not in self.made]
            if not row:
                return None
            point = self.point(min(row, key=explorer.cost))
            if point is not None:
                self.points.append(point)
                if point.drop <= most:
                    return point
        return None

    def answer(self, budget: Budget) -> Chosen | None:
        """The best of all that meets a budget, on the inputs that judge; of equally good ones the fastest."""
        met = [point for point in self.points if budget.met_by(point.estimate) and math.isfinite(point.loss)]
        least = min((point.loss for point in met), default=math.inf)
        for recipe in self.known.recipes:
            if recipe.loss < least and self.explorer.cost(recipe.nearest) <= NEARLY * budget.amount:
                point = self.known.point(recipe)
                if point is not None and budget.met_by(point.estimate):
                    met, least = [*met, point], point.loss
        if not met:
            return None
        return self.chosen(min(met, key=lambda point: (max(point.loss, SMALL), float(point.estimate.seconds))))

    def chosen(self, point: Point) -> Chosen:
        """A point as an answer, with what it was chosen from."""
        explorer, candidates = self.explorer, self.trials.space.candidates
        return Chosen(
            point, candidates, self.trials.task.metric, len(self.trials.measurements.sensitivity.columns[0]),
            self.trials.judge.images, self.trials.tried, explorer.effort.used, barred(explorer.problem, candidates),
            explorer.effort.stopped, self.careful(), self.trials.judge.accuracy(point.plan),
            self.trials.task.mends and bool(structural_sites(point.plan, self.trials.known)), self.accurate,
        )  # fmt: skip

    def careful(self) -> Point | None:
        """The fastest of the plans that were judged and lose next to nothing."""
        found = [point for point in self.points if point.drop <= HARMLESS]
        return min(found, key=lambda point: float(point.estimate.seconds), default=None)


def fastest_within_drop(search: Search, most: float) -> Chosen:
    """The fastest plan whose accuracy drop is no more than `most`, on the inputs that measure and on those that judge.

    BudgetError where there is none.
    """
    known = Known(search.trials)
    asked = Asked(search, known, search.trials.speed, known.accurate)
    explorer, (lowest, _) = asked.explorer, search.cheapest(search.trials.speed)
    explorer.attempt(search.exact, always=True)
    asked.points += [point for point in (asked.point(search.exact),) if point is not None]
    high, low = explorer.cost(search.exact), explorer.cost(lowest)
    explorer.descend(low, lambda tried: tried.drop > TOO_FAR * most)
    low = max((explorer.cost(picks) for picks in explorer.steps if explorer.tried[picks].drop > most), default=low)
    for step in range(STEPS):
        search.trials.task.progress("search", step, STEPS)
        middle = math.sqrt(low * high)
        explorer.improve(middle, explorer.effort.left // (STEPS - step))
        found = asked.kept(most, high)
        if found is None:
            low = middle
        else:
            high = min(float(found.estimate.seconds), middle)
    search.trials.task.progress("search", STEPS, STEPS)
    near = [recipe for recipe in asked.known.recipes if recipe.drop <= most and explorer.cost(recipe.nearest) <= NEARLY * high]
    asked.points += [point for point in map(asked.known.point, near) if point is not None]
    within = [point for point in asked.points if point.drop <= most]
    if not within:
        drops = [point.drop for point in asked.points]
        raise BudgetError(
            f"no plan of level {search.trials.task.level} loses less than {most:.3g} ({search.trials.task.metric.drop_name})",
            hint=f"The most exact one loses {min(drops, default=math.nan):.3g} on {search.trials.judge.images} inputs.",
        )
    return asked.chosen(min(within, key=lambda point: (float(point.estimate.seconds), point.loss)))


def cheapest_cost(search: Search, budget: Budget) -> Estimate:
    """What the plan takes that costs least in the unit of a budget, whatever it loses."""
    return search.trials.estimate(search.cheapest(weights_of(budget, search.trials.speed))[0])
