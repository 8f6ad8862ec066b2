"""A plan that was not fitted to these inputs: a grid that values leave is fitted again, or gives way to what has none.

    plan, changes = within_grids(graph, plan, inputs, approximations)      changes: what was done, and why, a line each

Beyond its grid a spline gate takes pieces of the other end, so that a choice changed by hand would make garbage of all that comes
after it, and so would a plan made for other inputs. All else of a given plan is taken as it is: what has no grid degrades gently,
and inputs outside its valid range are reported (`mpcc.calibration.range_check`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import fx

from mpcc.approximate import Approximation, Choice, Plan, SiteStatistics, Split
from mpcc.approximate.expand import check_sites
from mpcc.approximate.options import domain_of
from mpcc.calibration.range_check import ROUNDING
from mpcc.calibration.ranges import Inputs
from mpcc.calibration.sequential_fit import fit_sequentially
from mpcc.errors import RangeError

from .default_plan import applicable, preferred


@dataclass(frozen=True)
class Change:
    """A choice of a plan whose grid does not hold what its site sees, and what stands there instead."""

    site: str
    before: Choice
    after: Choice
    left: str
    """Which quantity leaves the grid, and how far."""

    def __str__(self) -> str:
        same = self.before.approximation == self.after.approximation
        done = "the grid was fitted again" if same else f"{self.after.approximation} stands there instead"
        return f"{self.site} ({self.before.approximation}): {self.left}; {done}"


def within_grids(
    graph_module: fx.GraphModule, plan: Plan, inputs: Inputs, approximations: Mapping[str, Approximation], synthetic: bool = False
) -> tuple[Plan, tuple[Change, ...]]:
    """The plan with grids that hold what their sites see under the choices before them, and what was changed for that.

    RangeError where no approximation holds it. One pass over the inputs, and none where the plan has no grid.
    """
    check_sites(graph_module, plan)
    used = [approximations.get(choice.approximation) for entry in plan.choices.values() for choice in entry.choices]
    if not any(one is not None and one.gate for one in used):
        return plan, ()
    changes: list[Change] = []

    def choose(seen: SiteStatistics) -> Choice | Split:
        return plan.choices[seen.site.name].map(lambda choice: held(choice, seen))

    def held(choice: Choice, seen: SiteStatistics) -> Choice:
        left = beyond(choice, seen, approximations)
        if not left:
            return choice
        changes.append(Change(seen.site.name, choice, replacement(choice, seen, approximations), left))
        return changes[-1].after

    choices = fit_sequentially(graph_module, inputs, choose, approximations, synthetic).choices
    return (replace(plan, choices=choices), tuple(changes)) if changes else (plan, ())


def beyond(choice: Choice, seen: SiteStatistics, approximations: Mapping[str, Approximation]) -> str:
    """Which quantity leaves the grid of a choice, and how far; empty where none does, or there is no grid."""
    one = approximations.get(choice.approximation)
    if one is None or not one.gate:
        return ""
    for name, (low, high) in domain_of(one, choice.options, seen.site.name).items():
        found, slack = seen.ranges.get(name), ROUNDING * (high - low)
        if found is not None and (found.low < low - slack or found.high > high + slack):
            return f"{name} reaches [{found.low:.4g}, {found.high:.4g}], beyond its grid over [{low:.4g}, {high:.4g}]"
    return ""


def replacement(choice: Choice, seen: SiteStatistics, approximations: Mapping[str, Approximation]) -> Choice:
    """The same approximation on a grid that holds what the site sees; where there is none, what has no grid."""
    same = approximations[choice.approximation]
    for _, candidates in applicable(seen, [same], same.level).values():
        for options in candidates:
            other = Choice(same.name, dict(options))
            if not beyond(other, seen, approximations):
                return other
    plain = preferred(seen, {name: one for name, one in approximations.items() if not one.gate}, "bounded")
    if plain is None:
        raise RangeError(
            f"no grid of {same.name} holds what it sees here, and nothing else keeps the function",
            where=f"site {seen.site.name}", hint="Choose another approximation there, or change what comes before it less.",
        )  # fmt: skip
    return plain
