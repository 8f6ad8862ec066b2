"""The plan without a search: at every site the first candidate of the preferred approximation of its operator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import fx

from ..errors import UnsupportedOperator
from ..ir.nn import sites
from ..rewrite import LEVELS, Approximation, Choice, Level, Options, Plan, SiteStatistics

PREFERRED = {"softmax": ("softmax_mean_shift", "softmax_renormalised", "softmax_max"), "gelu": ("gelu_even",)}
"""Where several approximations of an operator keep the function, the first to take. Others go by declared error."""


def default_plan(
    graph_module: fx.GraphModule,
    statistics: Mapping[str, SiteStatistics],
    approximations: Mapping[str, Approximation],
    level: Level = "bounded",
) -> Plan:
    """A choice for every site of the graph, none deeper than `level`; UnsupportedOperator names the sites without."""
    choices: dict[str, Choice] = {}
    missing: list[str] = []
    for name in sites(graph_module):
        choice = _first(applicable(statistics[name], approximations.values(), level))
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
    """Name -> the approximation and its members at a site, for those of its operator and at most `level`."""
    allowed = LEVELS[: LEVELS.index(level) + 1]
    found = {}
    for approximation in approximations:
        if approximation.operator == statistics.site.operator and approximation.level in allowed:
            members = approximation.candidates(statistics)
            if members:
                found[approximation.name] = (approximation, members)
    return found


def _first(found: Mapping[str, tuple[Approximation, tuple[Options, ...]]]) -> Choice | None:
    if not found:
        return None
    preferred = PREFERRED.get(next(iter(found.values()))[0].operator, ())

    def order(name: str) -> tuple[int, int, float]:
        approximation, members = found[name]
        declared = approximation.error(members[0])
        place = preferred.index(name) if name in preferred else len(preferred)
        return place, LEVELS.index(approximation.level), float("inf") if declared is None else declared

    best = min(found, key=order)
    return Choice(best, dict(found[best][1][0]))
