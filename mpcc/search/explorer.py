"""The search among plans by what they really do: every loss is that of a whole plan, fitted and run in float.

    explorer.descend(amount)          from the most exact plan to the budget, in steps; losses measured anew at each of them
    explorer.improve(amount, runs)    from the best plan within the budget: other options of one site, of several, of parts
    explorer.ranked(amount)           every plan that was tried within the budget, the best first

The losses that changes of one site cause, measured at the plan at hand, go into the integer programme (`moves.proposed`), which
proposes what to change together; the proposal is run, and its loss measured. So no correction is needed of losses that do not
add up: where they do not, the proposal is no better, and one of fewer changes is tried. All plans that were ever run are kept,
and costs are those of the additive model, set right by the nearest plan whose program was made.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mpcc.cost import Work

from .effort import Effort
from .moves import active, proposed, rated, shaken, singles
from .problem import Picks, Problem, Weights
from .walk import Walk, Walker

SEED = 0
SURELY = 0.95
"""Part of a budget that proposals aim at, since prices of sites do not add up exactly: 8 random plans of one model of the zoo
were off by 3 % at most. Every plan is priced as a whole before it counts, so that a worse case only wastes proposals."""
RATIO = 0.85
"""Of the budgets of two steps of a descent: about two of seventeen sites change in one. A judgement, not a measurement."""
LOWER = (1.0, SURELY, 0.9, 0.8)
"""Parts of a budget that proposals aim at in turn where no plan that was tried is within it."""
DESCENT = 0.5
"""Part of the runs that a descent may take."""
CHANGES = (1.0, 0.5, 0.25)
"""Parts of the slots that a proposal may change: the more change, the less do losses add up."""
SPREAD, SHAKES = 0.7, 8
"""Standard deviation of the logarithm of random factors on losses, and proposals with such, before a plan counts as settled."""
BETTER = 1e-3
"""Relative gain of loss that is worth another sweep."""
IDLE = 2
"""Rounds without a better plan after which more runs would be wasted."""


class Spent(Exception):  # noqa: N818  (no error: it ends a loop)
    """The runs of a phase are used up."""


@dataclass(frozen=True)
class Tried:
    """What a plan lost on the measuring inputs, and its cost by the additive model."""

    loss: float
    drop: float
    raw: float


class Explorer:
    """Plans tried for one question, in the unit that `weights` measure. `start`: the most exact plan, made before.

    Without a walker nothing is run: losses are what the problem says, added up.
    """

    def __init__(
        self, walker: Walker | None, problem: Problem, weights: Weights, effort: Effort, start: Picks, work: Work
    ) -> None:
        self.walker, self.problem, self.weights, self.effort = walker, problem, weights, effort
        self.start, self.tried, self.steps = start, dict[Picks, Tried](), list[Picks]()
        self.refused: set[Picks] = set()
        self.offsets = dict[Picks, float]()
        self.generator = random.Random(SEED)
        self.active = active(problem, weights)
        self.fence = effort.runs
        self.priced(start, work)

    # -- what is known --

    def priced(self, picks: Picks, work: Work) -> None:
        """Note what the program of a plan costs."""
        self.offsets[picks] = self.weights.of(work, 0.0) - self._raw(picks)

    def cost(self, picks: Picks) -> float:
        """The additive model's, off by what it was at the nearest plan whose program was made."""
        known = self.tried.get(picks)
        return (known.raw if known is not None else self._raw(picks)) + self._offset(picks)

    def ranked(self, amount: float) -> list[Picks]:
        """The plans tried within a budget, the best first."""
        rows = ((t.loss, self.cost(picks), picks) for picks, t in self.tried.items() if self.usable(picks))
        return [picks for loss, cost, picks in sorted(rows) if cost <= amount and math.isfinite(loss)]

    def usable(self, picks: Picks) -> bool:
        """Whether nothing is known that keeps a plan from being made."""
        return self.problem.usable(picks) and not any(picks[: len(first)] == first for first in self.refused)

    def refuse(self, picks: Picks, where: str) -> None:
        """No program can be made of a plan, as shows at a site: nor of any that has the same choices up to there."""
        places = [place for place, slot in enumerate(self.problem.slots) if slot.site in where]
        self.refused.add(picks[: places[-1] + 1] if places else picks)

    def _raw(self, picks: Picks) -> float:
        return self.weights.of(self.problem.work(picks), 0.0)

    def _offset(self, picks: Picks) -> float:
        return self.offsets[min(self.offsets, key=lambda other: sum(a != b for a, b in zip(picks, other, strict=True)))]

    # -- runs --

    def run(self, picks: Picks, base: Walk | None = None) -> float:
        """The loss of a plan. Spent where no run is left."""
        if picks not in self.tried:
            self.spend()
            self._note(self._added(picks) if self.walker is None else self.walker.result(picks, base))
        return self.tried[picks].loss

    def spend(self) -> None:
        """Count a run. Spent where none is left."""
        if self.effort.left <= 0 or self.effort.used >= self.fence:
            raise Spent
        self.effort.use()

    def walk(self, picks: Picks, base: Walk | None = None) -> Walk:
        """A plan that others are tried from."""
        walk = self._added(picks) if self.walker is None else self.walker.walk(picks, base)
        self._note(walk)
        return walk

    def _added(self, picks: Picks) -> Walk:
        return Walk(picks, (), self.problem.loss(picks), math.nan)

    def _note(self, walk: Walk) -> None:
        self.tried[walk.picks] = Tried(walk.loss, walk.drop, self._raw(walk.picks))

    def swept(self, here: Walk, in_parts: bool) -> Problem:
        """The problem with the losses that changes of one slot cause here; as it is where there are no runs for that."""
        problem, picks = self._problem(in_parts), self._short(here.picks, in_parts)
        moves = list(singles(problem, picks, self.active))
        if len(moves) > min(self.effort.left, self.fence - self.effort.used):
            return problem
        others = {(place, option): self._full(other, in_parts) for place, option, other in moves}
        self._run_all([other for other in dict.fromkeys(others.values()) if other not in self.tried], here)
        return rated(problem, picks, {move: self.tried[other].loss - here.loss for move, other in others.items()})

    def _run_all(self, many: Sequence[Picks], base: Walk) -> None:
        """Run plans that do not depend on one another."""
        for _ in many:
            self.spend()
        for walk in map(self._added, many) if self.walker is None else self.walker.results(many, base):
            self._note(walk)

    def _propose(self, model: Problem, here: Walk, amount: float, in_parts: bool, changes: Sequence[float] = CHANGES) -> None:
        """Run what the programme proposes from the losses of a model, of fewer and fewer changes."""
        own, most = self._short(here.picks, in_parts), amount - self._offset(here.picks)
        for part in changes:
            allowed = max(2, math.ceil(part * len(own)))
            picks = proposed(model, self.weights, most, (own, allowed))
            if picks is None:
                continue
            if self._full(picks, in_parts) in self.tried:
                self.spend()  # the programme took as long as a run does
            self.run(self._full(picks, in_parts), here)

    # -- sites as wholes, or in parts --

    def _problem(self, in_parts: bool) -> Problem:
        return self.problem if in_parts else self.problem.whole

    def _short(self, picks: Picks, in_parts: bool) -> Picks:
        return picks if in_parts else tuple(picks[positions[0]] for positions in self.problem.sites.values())

    def _full(self, picks: Picks, in_parts: bool) -> Picks:
        return picks if in_parts else self.problem.in_parts(picks)

    def _alike(self, picks: Picks) -> bool:
        """Whether the parts of every site choose alike."""
        return picks == self._full(self._short(picks, False), False)

    # -- phases --

    def attempt(self, picks: Picks, always: bool = False) -> None:
        """Run a plan, if there is a run left for it."""
        if always or self.effort.left > 0:
            self.walk(picks)
            self.effort.use()

    def descend(self, amount: float, far: Callable[[Tried], bool] = lambda tried: False) -> None:
        """From the most exact plan to the budget, or to the first step that goes too far. `steps`: the best plan of each."""
        self.fence = self.effort.used + int(DESCENT * self.effort.left)
        try:
            here, model = self.walk(self.start), self._problem(False)
            for level in self._levels(amount):
                self._propose(model, here, level, False)
                if level == amount:
                    self._propose(model, here, SURELY * amount, False)
                best = next(filter(self._alike, self.ranked(level)), None)
                if best is None:
                    continue
                self.steps.append(best)
                if far(self.tried[best]):
                    return
                if level > amount:
                    here = self.walk(best, here)
                    model = self.swept(here, False)
        except Spent:
            pass
        except KeyboardInterrupt:
            self.effort.stop()

    def _levels(self, amount: float) -> Iterator[float]:
        """Budgets on the way down: no more than there are runs for the sweeps between them."""
        top = self.cost(self.start)
        if top > amount:
            sweep = max(1, sum(len(row) - 1 for row in self.active.values()))
            steps = min(math.ceil(math.log(top / amount) / -math.log(RATIO)), 1 + (self.fence - self.effort.used) // sweep)
            yield from (top * (amount / top) ** (step / steps) for step in range(1, steps))
        yield amount

    def improve(self, amount: float, runs: int) -> None:
        """The best plan within a budget, as far as these runs go."""
        self.fence, idle = self.effort.used + min(runs, self.effort.left), 0
        try:
            if not self.ranked(amount):
                self._reach(amount)
            while idle < IDLE and self.ranked(amount):
                gained = self._climb(amount, False)
                if len(self.problem.slots) > len(self.problem.sites):
                    gained = self._climb(amount, True) or gained
                idle = 0 if gained else idle + 1
        except Spent:
            pass
        except KeyboardInterrupt:
            self.effort.stop()

    def _reach(self, amount: float) -> None:
        """From the cheapest plan that was tried to one within the budget: prices may have turned out higher than was thought."""
        for part in LOWER:
            finite = [picks for picks, tried in self.tried.items() if math.isfinite(tried.loss) and self.usable(picks)]
            if not finite:
                return
            here = self.walk(min(finite, key=self.cost))
            self._propose(self.swept(here, False), here, part * amount, False)
            if self.ranked(amount):
                return

    def _climb(self, amount: float, in_parts: bool) -> bool:
        """Whether a better plan was found."""
        gained = False
        while True:
            best = next((picks for picks in self.ranked(amount) if in_parts or self._alike(picks)), None)
            if best is None:
                return gained
            here = self.walk(best)
            model, enough = self.swept(here, in_parts), here.loss * (1 - BETTER)
            self._propose(model, here, amount, in_parts)
            for _ in range(SHAKES):
                if self._least(amount) < enough:
                    break
                self._propose(shaken(model, SPREAD, self.generator), here, amount, in_parts, CHANGES[-1:])
            if not self._least(amount) < enough:
                return gained
            gained = True

    def _least(self, amount: float) -> float:
        return next((self.tried[picks].loss for picks in self.ranked(amount)), math.inf)
