"""What is measured before any price is known: the candidates of every site, and what each of them does to the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpcc import registry

from .candidates import Candidates, candidates
from .parts import WHOLE, Parts, alone, parted, with_shares
from .prices import Prices
from .replay import Replay
from .sensitivity import FEWEST_CALLS, MOST_CALLS, Sensitivity, affordable, affordable_calls
from .task import Task


@dataclass(frozen=True)
class Measurements:
    """Roughly pruned candidates, the loss of each, the inputs that losses were measured on, and the parts of sites.

    Unless `sensitivity_measured`, for lack of time losses are the errors at the sites.
    """

    found: Mapping[str, Candidates]
    losses: Mapping[str, Sequence[float]]
    sensitivity: Sensitivity
    parts: Mapping[str, Parts]
    sensitivity_measured: bool = True


def measure(task: Task, replay: Replay, prices: Prices) -> Measurements:
    """One sweep over the candidates of every site, on as many calibration inputs as there is time for.

    `prices` are only used roughly, to tell which candidates need not be measured.
    """
    known = registry.approximations()
    found = candidates(
        task.graph, task.statistics, known, task.level_at, replay, prices, lambda d, t: task.progress("candidates", d, t)
    )
    parts = parted(task.graph, found, known, replay) if task.calibrated else dict.fromkeys(found, WHOLE)
    cut = alone(found, parts, known)
    rows = {site: [*(m.choice for m in entry.kept), *cut.get(site, ())] for site, entry in found.items()}
    if affordable(task.graph, rows) < FEWEST_CALLS:
        rows = {site: row[: len(found[site].kept)] for site, row in rows.items()}
    calls = affordable_calls(task.graph, rows, task.calibrated, min(MOST_CALLS, task.apart or MOST_CALLS))
    sensitivity = on_calls(task, calls or 1)
    if not calls:
        errors = {site: [min(m.error, 1.0) ** 2 for m in entry.kept] for site, entry in found.items()}
        return Measurements(found, errors, sensitivity, parts, sensitivity_measured=False)
    losses = sensitivity.sweep(rows, lambda d, t: task.progress("sensitivity", d, t))
    for site in cut:
        found[site] = with_shares(found[site], parts[site], losses[site][len(found[site].kept) :], known)
    whole = {site: losses[site][: len(entry.kept)] for site, entry in found.items()}
    return Measurements(found, whole, sensitivity, parts)


def on_calls(task: Task, calls: int, first: int = 0) -> Sensitivity:
    """What measures losses on so many of the calibration inputs."""
    columns = tuple(column[first : first + calls] for column in task.columns)
    return Sensitivity.of(task.graph, columns, registry.approximations(), task.metric)
