"""What there is to choose from under one protocol: the candidates left at every site, its parts, and the problem they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mpcc import registry

from .candidates import Candidate, Candidates, measured
from .measurements import Measurements
from .neighbourhood import edges
from .parts import WHOLE, Parts, slots_of, structural
from .prices import Prices
from .problem import Picks, Problem, Slot
from .task import Task


@dataclass(frozen=True)
class Space:
    """`problem` has a slot for every part of every site, in the order of `parts`; a slot's options are the candidates."""

    candidates: Mapping[str, Candidates]
    parts: Mapping[str, Parts]
    problem: Problem

    def picked(self, picks: Picks) -> dict[str, list[Candidate]]:
        """Site -> the candidate that was picked for each of its parts."""
        left = iter(picks)
        return {
            site: [entry.kept[next(left)] for _ in self.parts[site].groups] for site, entry in self.candidates.items()
        }


def space_of(task: Task, measurements: Measurements, prices: Prices) -> Space:
    """Measured candidates with exact prices, pruned by both."""
    known = registry.approximations()
    left: dict[str, Candidates] = {}
    parts: dict[str, Parts] = {}
    slots: list[Slot] = []
    for done, (site, entry) in enumerate(measurements.found.items()):
        task.progress("price", done, len(measurements.found))
        left[site] = measured(entry, measurements.losses[site], prices)
        pays = structural(left[site], known) and len(left[site].kept) > 1
        parts[site] = measurements.parts[site] if pays else WHOLE
        slots += slots_of(left[site], parts[site], prices)
    return Space(left, parts, Problem(tuple(slots), edges(task.graph), parallel=prices.parallel))
