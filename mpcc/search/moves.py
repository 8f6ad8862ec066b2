"""What may be tried from a plan: other options of its sites, and the programme's proposals from losses measured there."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from .problem import Limit, Option, Picks, Problem, Slot, Weights
from .solver import solve

LOSS = Weights(loss=1.0)
SMALL = 1e-5
"""A loss up to which options count as equally good: below it, the order on some dozens of inputs means nothing."""
HALF = 0.5
"""Part of the loss of another option, alone at the site, that makes one clearly better. Losses alone say too little of those
within a plan to go by less: in plans of half the bounded plan's time, options change places by up to this factor."""
GAP = 1e-3
"""Relative distance from the optimum at which the solver may stop: losses that are added up hold to far less."""
TIE_SPEED = 1e-6
"""Loss that is given up for all the time that could be saved: of two plans that are equally good the faster one."""


def active(problem: Problem, weights: Weights) -> dict[str, tuple[int, ...]]:
    """Site -> the options worth a run: no other one costs no more, in what is asked for, and is clearly better."""
    found = {}
    for slot in problem.whole.slots:
        costs = [(weights.of(option.work, 0.0), option.loss) for option in slot.options]
        found[slot.site] = tuple(
            place for place, own in enumerate(costs)
            if not any(_beats(other, own, index < place) for index, other in enumerate(costs) if index != place)
        )  # fmt: skip
    return found


def _beats(other: tuple[float, float], own: tuple[float, float], first: bool) -> bool:
    if other[0] > own[0]:
        return False
    if max(other[1], own[1]) <= SMALL:  # as good: the cheaper one, or of equal ones the first
        return other[0] < own[0] or first
    return other[1] <= HALF * own[1]


def singles(problem: Problem, picks: Picks, open_: Mapping[str, Sequence[int]]) -> Iterable[tuple[int, int, Picks]]:
    """(slot, option, picks) of every change of one slot to another usable option of those that are worth a run."""
    for place, slot in enumerate(problem.slots):
        for index in open_[slot.site]:
            if index != picks[place] and slot.options[index].usable:
                yield place, index, (*picks[:place], index, *picks[place + 1 :])


def rated(problem: Problem, picks: Picks, deltas: Mapping[tuple[int, int], float]) -> Problem:
    """The problem with what each change of one slot does to the loss of a plan; options that were not tried are not usable."""
    slots = []
    for place, slot in enumerate(problem.slots):
        own = [0.0 if index == picks[place] else deltas.get((place, index), math.inf) for index in range(len(slot.options))]
        slots.append(replace(slot, options=tuple(map(_rated, slot.options, own))))
    return replace(problem, slots=tuple(slots))


def _rated(option: Option, delta: float) -> Option:
    return replace(option, loss=delta, usable=True) if math.isfinite(delta) else replace(option, loss=0.0, usable=False)


def shaken(problem: Problem, spread: float, generator: random.Random) -> Problem:
    """The problem with every loss multiplied by a random factor: its solutions are other good ones."""

    def other(slot: Slot) -> Slot:
        return replace(slot, options=tuple(replace(o, loss=o.loss * generator.lognormvariate(0.0, spread)) for o in slot.options))

    return replace(problem, slots=tuple(map(other, problem.slots)))


def proposed(problem: Problem, weights: Weights, most: float, near: tuple[Picks, int] | None = None) -> Picks | None:
    """The picks that the losses of a problem, added up, let expect least of, at a cost of at most `most`."""
    objective = LOSS + weights * (TIE_SPEED / span(problem, weights))
    return solve(problem, objective, [Limit(weights, most)], GAP, near)


def span(problem: Problem, weights: Weights) -> float:
    """How far the cheapest and the most expensive plan can lie apart."""
    total = 0.0
    for slot in problem.slots:
        costs = [weights.of(option.work, 0.0) for option in slot.options]
        total += max(costs) - min(costs)
    return max(total, 1e-12)
