"""The best plan as a mixed-integer linear program (MILP), solved by HiGHS within ABSOLUTE_GAP.

    minimise   objective(rounds, bytes, local, loss)          all measures are linear: see `Weights`
    so that    each limit holds                                 such as rounds * latency + bytes / bandwidth + local <= 2 s
    x[slot, option] is 0 or 1, one option a slot
    used[site, form] >= x of each option of that form at the site                 (what a form costs once)
    rounds[site] >= sum of x * rounds over the options of each of its slots       (parts run side by side)
    start[v] >= start[u] + rounds[u] + rounds between u and v                     (the longest path counts)

Rounds and what is paid once have non-negative weights everywhere, so the inequalities are tight where they matter.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import optimize, sparse

from .problem import Limit, Picks, Problem, Weights

Array = np.ndarray[Any, Any]
SLACK = 1e-9
"""Relative: how far above a limit counts as rounding."""
MOST_CUTS = 50
"""Solutions that may lie within the solver's tolerance of a limit but above it; each is excluded by a row."""
MOST_NODES = 1000
"""Of a search within a gap: when as many did not close it, what was found so far is as good (and a count, unlike a time, gives
the same plan everywhere)."""
ABSOLUTE_GAP = 1e-6
"""HiGHS's default, which scipy does not let one change, of an objective whose largest coefficient is scaled to 1."""
INFEASIBLE = 2


def solve(
    problem: Problem,
    objective: Weights,
    limits: Sequence[Limit] = (),
    gap: float = 0.0,
    near: tuple[Picks, int] | None = None,
) -> Picks | None:
    """The picks of least objective within the limits; None if there are none. `gap`: relative, that is close enough.

    `near`: picks, of which so many slots at most may differ.
    """
    if not problem.slots:
        return () if all(holds(problem, limit, ()) for limit in limits) else None
    milp = Milp.of(problem)
    for limit in limits:
        milp.limit(problem, limit)
    if near is not None:
        milp.keep_near(*near)
    for _ in range(MOST_CUTS):
        picks = milp.run(problem, objective, gap)
        if picks is None or all(holds(problem, limit, picks) for limit in limits):
            return picks
        milp.exclude(picks)  # within the solver's tolerance of a limit, but above it
    return None


def holds(problem: Problem, limit: Limit, picks: Picks) -> bool:
    """Whether these picks keep the limit."""
    return problem.measure(limit.weights, picks) <= limit.most * (1 + SLACK) + 1e-300


@dataclass
class Milp:
    """Columns: x of every option, `used` of every form, rounds of every site, start of every site, the rounds in all (last)."""

    first: list[int]
    used: dict[tuple[str, int], int]
    columns: int
    lower: Array
    rows: list[tuple[dict[int, float], float, float]] = field(default_factory=list)

    @staticmethod
    def of(problem: Problem) -> Milp:
        first = [int(n) for n in np.cumsum([0, *(len(slot.options) for slot in problem.slots)])]
        sites, used = list(problem.sites), {key: first[-1] + index for index, key in enumerate(problem.forms)}
        behind = first[-1] + len(used)
        columns = behind + 2 * len(sites) + 1
        lower = np.zeros(columns)
        lower[behind:] = -np.inf
        made = Milp(first, used, columns, lower)
        for position, slot in enumerate(problem.slots):
            made.rows.append(({column: 1.0 for column in range(first[position], first[position + 1])}, 1.0, 1.0))
            for index, option in enumerate(slot.options):
                if option.form is not None:
                    made.rows.append(({used[slot.site, option.form]: 1.0, first[position] + index: -1.0}, 0.0, np.inf))
        own = {site: behind + index for index, site in enumerate(sites)}
        start = {site: behind + len(sites) + index for index, site in enumerate(sites)}
        if problem.parallel:
            made._coupled(problem, own, start)
        else:
            row = {columns - 1: 1.0}
            for position, slot in enumerate(problem.slots):
                row |= {first[position] + i: -float(o.work.rounds) for i, o in enumerate(slot.options)}
            row |= {used[key]: -float(once.rounds) for key, once in problem.forms.items()}
            made.rows.append((row, 0.0, 0.0))
            made.lower[behind:-1] = 0.0
        return made

    def _coupled(self, problem: Problem, own: dict[str, int], start: dict[str, int]) -> None:
        for site, positions in problem.sites.items():
            for position in positions:
                options = problem.slots[position].options
                row = {self.first[position] + i: -float(o.work.rounds) for i, o in enumerate(options)}
                self.rows.append((row | {own[site]: 1.0}, 0.0, np.inf))
            self.lower[start[site]] = 0.0
        self.rows.append(({self.columns - 1: 1.0}, 0.0, np.inf))
        for edge in problem.edges:
            row = {self.columns - 1 if edge.target is None else start[edge.target]: 1.0}
            if edge.source is not None:
                row |= {start[edge.source]: -1.0, own[edge.source]: -1.0}
            self.rows.append((row, edge.rounds, np.inf))

    def costs(self, problem: Problem, weights: Weights) -> Array:
        """The measure as coefficients of the columns, without what is fixed."""
        found = np.zeros(self.columns)
        for position, slot in enumerate(problem.slots):
            for index, option in enumerate(slot.options):
                work = option.work
                found[self.first[position] + index] = (
                    weights.bytes * float(work.bytes)
                    + weights.local_seconds * float(work.local_seconds)
                    + weights.loss * option.loss
                )
        for key, once in problem.forms.items():
            found[self.used[key]] = weights.bytes * float(once.bytes) + weights.local_seconds * float(once.local_seconds)
        found[-1] = weights.rounds
        return found

    def limit(self, problem: Problem, limit: Limit) -> None:
        """Add a limit, divided by its right side so that tolerances are relative."""
        costs = self.costs(problem, limit.weights)
        left = limit.most - limit.weights.of(problem.fixed, problem.fixed_loss)
        scale = abs(left) or float(np.abs(costs).max()) or 1.0
        row = {int(column): costs[column] / scale for column in np.flatnonzero(costs)}
        self.rows.append((row, -np.inf, left / scale))

    def exclude(self, picks: Picks) -> None:
        """Forbid one combination."""
        row = {self.first[position] + pick: 1.0 for position, pick in enumerate(picks)}
        self.rows.append((row, -np.inf, len(picks) - 1.0))

    def keep_near(self, picks: Picks, changes: int) -> None:
        """Allow so many changes of these picks."""
        row = {self.first[position] + pick: 1.0 for position, pick in enumerate(picks)}
        self.rows.append((row, float(len(picks) - changes), np.inf))

    def run(self, problem: Problem, objective: Weights, gap: float) -> Picks | None:
        costs = self.costs(problem, objective)
        costs = costs / (np.abs(costs).max() or 1.0)
        entries = [(r, column, value) for r, (row, _, _) in enumerate(self.rows) for column, value in row.items()]
        rows, columns, values = zip(*entries, strict=True)
        matrix = sparse.csr_matrix((values, (rows, columns)), shape=(len(self.rows), self.columns))
        binary = np.arange(self.columns) < self.first[-1]
        upper = np.where(binary, 1.0, np.inf)
        upper[: self.first[-1]] = [float(option.usable) for slot in problem.slots for option in slot.options]
        bounds = [low for _, low, _ in self.rows], [top for _, _, top in self.rows]

        def solved(most: int | None) -> Any:
            return optimize.milp(
                costs,
                integrality=binary.astype(int),
                bounds=optimize.Bounds(self.lower, upper),
                constraints=optimize.LinearConstraint(matrix, *bounds),
                options={"mip_rel_gap": gap, **({} if most is None else {"node_limit": most})},
            )

        with _silent_stdout():
            found = solved(MOST_NODES if gap else None)
            if found.x is None and found.status != INFEASIBLE:  # stopped before it had any
                found = solved(None)
        if found.x is None:
            return None
        pairs = zip(self.first[:-1], self.first[1:], strict=True)
        return tuple(int(np.argmax(found.x[low:high])) for low, high in pairs)


@contextmanager
def _silent_stdout() -> Iterator[None]:
    """HiGHS writes a line to the standard output now and then, whatever it is told: into the middle of `--json`."""
    try:
        kept = os.dup(1)
    except OSError:  # there is none
        yield
        return
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
        ctypes.CDLL(None).fflush(None)  # what its library still holds
    finally:
        os.dup2(kept, 1)
        os.close(nowhere)
        os.close(kept)
