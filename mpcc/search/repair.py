"""From predictions to a plan that holds: solve, make the whole program, run the joint choice, correct, solve again.

Prices of sites do not know what whole programs share, and losses of sites do not know one another. So every plan that
the solver offers is priced as a program and run with all its choices in place. Where that differs from the prediction,
the problem is corrected and solved again, until a plan comes back that is known already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mpcc.cost import Work
from mpcc.errors import RangeError

from .problem import Limit, Picks, Problem, Weights
from .runaway import Runaway
from .solver import solve

LOSS = Weights(loss=1.0)
NEGLIGIBLE = 1e-6
"""Loss that is given up for all the time that could be saved: of two plans that are equally good the faster one."""
CLOSE, SMALL = 0.1, 1e-5
"""A measured loss this near to the predicted one confirms it."""
MOST_TRIALS = 8
"""Whole programs made for one question. The loop ends by itself when a plan comes back; this holds where corrections of the
problem alternate between plans, and bounds the time on large models, where a program takes a minute."""
MOST_BANS = 40
"""Options that turn out not to be usable; each costs one run of the graph and no program."""
GAP, PART_GAP = 1e-3, 1e-2
"""Relative distance from the optimum at which the solver may stop: well below `CLOSE`, to which its predictions hold. Parts of
sites are interchangeable to a percent, and to prove which of them is best would take most of the time."""
MOST_CORRECTION = 10.0
"""How far one measurement of a joint choice scales the losses of a single site. They enter the sum with all others, so that such
a factor is already more likely the share of another site; without a bound, a site whose own loss is tiny would be barred."""
TIE_SPEED, TIE_LOSS = 1e-9, 1e-12
"""Of two plans equal in what is asked for, the better one in the other measure: less than any difference that was measured."""


@dataclass(frozen=True)
class Trial:
    """A plan that was tried: its exact work as a program and the measured loss of the joint choice."""

    picks: Picks
    work: Work
    loss: float
    predicted: float


@dataclass(frozen=True)
class Tools:
    """What the loop may ask: the work of the whole program, the loss of a joint choice, and that with each site exact.

    `without` is empty where it would take too long.
    """

    work: Callable[[Picks], Work]
    loss: Callable[[Picks], float]
    without: Callable[[Picks], Mapping[str, float]]


def least_loss(
    problem: Problem, speed: Weights, limits: Sequence[Limit], tools: Tools, known: Sequence[Trial] = (), most: int = MOST_TRIALS
) -> tuple[list[Trial], Problem]:
    """Plans of the least loss within the limits, each tried, and the problem as corrected by them.

    Sites are chosen as wholes first; then their parts may differ, for half as many trials: so many more choices let the
    solver pick out what is predicted too well, and only near a plan that was tried are its predictions worth that.
    Some plans may miss a limit: they were thought to meet it. `speed` tells equally good ones apart.
    """
    tried = {trial.picks: trial for trial in known}
    found: list[Trial] = []
    objective = LOSS + speed * (NEGLIGIBLE / span(problem, speed))
    for in_parts in (False, True) if len(problem.slots) > len(problem.sites) else (False,):
        until = most + most // 2 if in_parts else most
        for _ in range(most + MOST_BANS):
            picks = picked(problem, objective, limits, in_parts)
            if picks is None or len(found) == until or any(trial.picks == picks for trial in found):
                break
            trial = tried.get(picks) or attempt(problem, picks, tools)
            if isinstance(trial, Problem):
                problem = trial
                continue
            found.append(trial)
            problem = problem.corrected_to(picks, trial.work)
            if abs(trial.loss - problem.loss(picks)) > CLOSE * trial.loss + SMALL:
                problem = corrected(problem, picks, trial.loss, tools.without(picks))
    return found, problem


def picked(problem: Problem, objective: Weights, limits: Sequence[Limit], in_parts: bool) -> Picks | None:
    """The solver's picks, with the parts of a site alike or each by itself."""
    if in_parts:
        return solve(problem, objective, limits, PART_GAP)
    picks = solve(problem.whole, objective, limits, GAP)
    return None if picks is None else problem.in_parts(picks)


def settled(problem: Problem, objective: Weights, tools: Tools) -> tuple[Trial, Problem]:
    """The plan of least objective among those that can be made, tried; and the problem without the others."""
    while True:
        picks = picked(problem, objective, (), in_parts=False)
        assert picks is not None, "every slot keeps a usable option"
        trial = attempt(problem, picks, tools)
        if isinstance(trial, Trial):
            return trial, problem
        problem = trial


def cheapest(problem: Problem, weights: Weights, tools: Tools) -> tuple[Trial, Problem]:
    """The plan that costs least, whatever it does."""
    return settled(problem, weights + LOSS * TIE_LOSS, tools)


def most_exact(problem: Problem, speed: Weights, tools: Tools) -> tuple[Trial, Problem]:
    """The plan that does least loss, whatever it costs."""
    return settled(problem, LOSS + speed * TIE_SPEED, tools)


def attempt(problem: Problem, picks: Picks, tools: Tools) -> Trial | Problem:
    """A plan made and run; where that fails, the problem without the option that is to blame."""
    try:
        loss = tools.loss(picks)
        if not math.isfinite(loss):
            return banned(problem, picks, RangeError("values are infinite"))
        return Trial(picks, tools.work(picks), loss, problem.loss(picks))
    except RangeError as error:
        return banned(problem, picks, error)


def span(problem: Problem, speed: Weights) -> float:
    """How far the cheapest and the most expensive plan can lie apart."""
    total = 0.0
    for slot in problem.slots:
        costs = [speed.of(option.work, 0.0) for option in slot.options]
        total += max(costs) - min(costs)
    return max(total, 1e-12)


def corrected(problem: Problem, picks: Picks, measured: float, without: Mapping[str, float]) -> Problem:
    """Losses scaled, site by site, so that they add up to what was measured for these picks.

    A site's share lies halfway between its loss alone and what is left undone when it is made exact: to second order
    these shares add up to the joint loss. What remains is shared out in proportion; all of it where `without` is empty.
    Parts of a site are scaled alike.
    """
    alone = dict.fromkeys(problem.sites, 0.0)
    for slot, pick in zip(problem.slots, picks, strict=True):
        alone[slot.site] += slot.options[pick].loss
    shares = {site: max(0.0, (own + measured - without.get(site, measured - own)) / 2) for site, own in alone.items()}
    total = sum(shares.values())
    factor = measured / total if total > 0 else 1.0
    slots = []
    for slot in problem.slots:
        own = alone[slot.site]
        ratio = shares[slot.site] * factor / own if own > 0 else 1.0
        ratio = min(max(ratio, 1 / MOST_CORRECTION), MOST_CORRECTION)
        slots.append(replace(slot, options=tuple(replace(o, loss=o.loss * ratio) for o in slot.options)))
    made = replace(problem, slots=tuple(slots))
    return replace(made, fixed_loss=made.fixed_loss + measured - made.loss(picks))


def banned(problem: Problem, picks: Picks, error: RangeError) -> Problem:
    """Without the choice of most loss up to there, which made values leave the ranges of what follows.

    What the error names is where that shows, seldom where it comes from; where it knows that, without what is to blame.
    The error itself where no choice is left.
    """
    open_ = [p for p, slot in enumerate(problem.slots) if sum(option.usable for option in slot.options) > 1]
    if not open_:
        raise error
    for place in _to_blame(problem, picks, error, open_):
        problem = _barred(problem, picks, place, open_)
    return problem


def _to_blame(problem: Problem, picks: Picks, error: RangeError, open_: Sequence[int]) -> list[int]:
    """Of the slots that have a choice left those whose picks are to blame."""

    def worst(places: Sequence[int]) -> int:
        return max(places, key=lambda p: problem.slots[p].options[picks[p]].loss)

    known = error.causes if isinstance(error, Runaway) else ()
    own = {problem.slots[p].site: [q for q in open_ if problem.slots[q].site == problem.slots[p].site] for p in open_}
    causes = dict.fromkeys(next((site for site in cause if site in own), None) for cause in known)
    found = [worst(own[site]) for site in causes if site is not None]
    if found:
        return found
    named = [p for p, slot in enumerate(problem.slots) if slot.site in (error.where or "")]
    return [worst([p for p in open_ if named and p <= named[-1]] or open_)]


def _barred(problem: Problem, picks: Picks, position: int, open_: Sequence[int]) -> Problem:
    """Without the option picked at a slot, nor its like in the other open parts of the site."""
    blamed, slots = problem.slots[position], list(problem.slots)
    form = blamed.options[picks[position]].form
    for place in [p for p in open_ if p == position or (form is not None and slots[p].site == blamed.site)]:
        options = list(slots[place].options)
        index = picks[place] if place == position else next(i for i, option in enumerate(options) if option.form == form)
        options[index] = replace(options[index], usable=False)
        slots[place] = replace(slots[place], options=tuple(options))
    return replace(problem, slots=tuple(slots))
