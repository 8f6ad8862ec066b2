"""The plan without a search: at every site the first candidate of the preferred approximation of its operator."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from torch import fx

from mpcc.approximate import LEVELS, Approximation, Choice, Level, Options, Plan, SiteStatistics
from mpcc.approximate.masks import takes_mask
from mpcc.errors import UnsupportedOperator
from mpcc.ir.nn import sites

GOOD = 0.05
"""The declared error up to which a preferred approximation is taken."""


def default_plan(
    graph_module: fx.GraphModule,
    statistics: Mapping[str, SiteStatistics],
    approximations: Mapping[str, Approximation],
    level: Level = "bounded",
    barred: Collection[tuple[str, str]] = (),
) -> Plan:
    """A choice for every site of the graph, none deeper than `level`; UnsupportedOperator names the sites without.

    `barred`: (site, approximation) that are not to be chosen there.
    """
    choices: dict[str, Choice] = {}
    missing: list[str] = []
    for name in sites(graph_module):
        allowed = {other: one for other, one in approximations.items() if (name, other) not in barred}
        choice = preferred(statistics[name], allowed, level)
        if choice is None:
            missing.append(name)
        else:
            choices[name] = choice
    if missing:
        raise UnsupportedOperator(
            f"no approximation of level {level} applies at {', '.join(missing)}",
            hint="`mpcc passes` lists what there is; a deeper level or other calibration inputs may open more.",
        )
    calibrated = all(seen.calibrated for seen in statistics.values())
    return Plan(choices, {"made_by": "default", "level": level, "calibrated": calibrated})


def applicable(
    statistics: SiteStatistics, approximations: Iterable[Approximation], level: Level
) -> dict[str, tuple[Approximation, tuple[Options, ...]]]:
    """Name -> the approximation and its candidates at a site, for those of its operator and at most `level`."""
    allowed = LEVELS[: LEVELS.index(level) + 1]
    found = {}
    for approximation in approximations:
        fits = not statistics.site.attributes.get("masked") or takes_mask(approximation)
        if approximation.operator == statistics.site.operator and approximation.level in allowed and fits:
            candidates = approximation.candidates(statistics)
            if candidates:
                found[approximation.name] = (approximation, candidates)
    return found


def preferred(seen: SiteStatistics, approximations: Mapping[str, Approximation], level: Level) -> Choice | None:
    """The first preferred one that is accurate enough there, else the most accurate; spline gates where nothing else applies."""
    for approximation in _by_preference(seen.site.operator, approximations):
        for _, candidates in applicable(seen, [approximation], level).values():
            if declared(approximation, candidates[0]) <= GOOD:
                return Choice(approximation.name, dict(candidates[0]))
    others = [one for one in approximations.values() if not one.gate]
    found = applicable(seen, others, level) or applicable(seen, approximations.values(), level)
    if not found:
        return None

    def order(name: str) -> tuple[int, float]:
        approximation, candidates = found[name]
        return LEVELS.index(approximation.level), declared(approximation, candidates[0])

    best = min(found, key=order)
    return Choice(best, dict(found[best][1][0]))


def _by_preference(operator: str, approximations: Mapping[str, Approximation]) -> list[Approximation]:
    """Those of an operator that declare a preference, the first to try first."""
    found = [(one.preference, one.name) for one in approximations.values() if one.operator == operator and one.preference]
    return [approximations[name] for _, name in sorted(found)]


def declared(approximation: Approximation, options: Options) -> float:
    """The error that a candidate declares; infinite where it declares none."""
    error = approximation.error(options)
    return float("inf") if error is None else error
