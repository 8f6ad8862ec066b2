"""Choices that turn out not to be usable are barred: what made values infinite, overflow, or too coarse, and nothing besides.

The report names each (`barred`), since a choice that is barred wrongly costs accuracy or time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mpcc.errors import RangeError

from .candidates import Candidates
from .problem import Picks, Problem
from .runaway import Runaway


@dataclass(frozen=True)
class Bar:
    """An approximation that was not chosen from at a site any more, and what it had done."""

    site: str
    approximation: str
    why: str

    def __str__(self) -> str:
        return f"{self.site}: {self.approximation} ({self.why})"


def barred(problem: Problem, candidates: Mapping[str, Candidates]) -> tuple[Bar, ...]:
    """What was barred from a problem, each approximation of a site once."""
    found: dict[tuple[str, str], Bar] = {}
    for slot in problem.slots:
        for option, candidate in zip(slot.options, candidates[slot.site].kept, strict=True):
            name = candidate.choice.approximation
            if option.why:
                found.setdefault((slot.site, name), Bar(slot.site, name, option.why))
    return tuple(found.values())


def banned(problem: Problem, picks: Picks, error: RangeError) -> Problem:
    """Without the choice of most loss up to there, which made values leave the ranges of what follows.

    What the error names is where that shows, seldom where it comes from; where it knows that, without what is to blame.
    The error itself where no choice is left.
    """
    open_ = [p for p, slot in enumerate(problem.slots) if sum(option.usable for option in slot.options) > 1]
    if not open_:
        raise error
    for place in _to_blame(problem, picks, error, open_):
        problem = _barred(problem, picks, place, open_, error.what)
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


def _barred(problem: Problem, picks: Picks, position: int, open_: Sequence[int], why: str) -> Problem:
    """Without the option picked at a slot, nor its like in the other open parts of the site."""
    blamed, slots = problem.slots[position], list(problem.slots)
    for place in _alike(problem, position, open_, blamed.options[picks[position]].form):
        options = list(slots[place].options)
        form = blamed.options[picks[position]].form
        index = picks[place] if place == position else next(i for i, option in enumerate(options) if option.form == form)
        options[index] = replace(options[index], usable=False, why=why)
        slots[place] = replace(slots[place], options=tuple(options))
    return replace(problem, slots=tuple(slots))


def _alike(problem: Problem, position: int, open_: Sequence[int], form: int | None) -> Iterator[int]:
    site = problem.slots[position].site
    yield from (p for p in open_ if p == position or (form is not None and problem.slots[p].site == site))
