"""Before and after, line by line: what a plan chose at each site, and the cost of the site before and after.

There is one line per site of the plan; nodes without a choice (linear layers, matrix products) are summed by kind. The lines
add up to the totals of both estimates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from mpcc.approximate import Choice, Plan
from mpcc.cost import Estimate, PhaseCost, SiteCost
from mpcc.ir.nn import site_operator

from .units import count, duration, size, times

KINDS = {"conv": "convolution", "reveal": "output", "select": "mul"}
"""Primitives of the online program -> the model's operators."""


@dataclass(frozen=True)
class Line:
    """`name`: a site, or a kind with its count. `chosen`: the approximation with its options, "" for a kind.

    `priced`: whether the protocol before has a price for all of it; if not, `before` is what the rest costs.
    """

    name: str
    chosen: str
    before: PhaseCost
    after: PhaseCost
    priced: bool = True


def lines(plan: Plan, before: Estimate, after: Estimate) -> list[Line]:
    """Sites in graph order, then kinds by decreasing bytes before."""
    lacking = {site for site, _ in before.unpriced}
    kinds_lacking = {kind for site, kind in before.unpriced if site not in plan.choices}
    sites = [
        Line(name, describe(plan, name), _sum(r for r in before.sites if r.site == name), _at(name, after), name not in lacking)
        for name in plan.choices
    ]
    old = _by_kind(row for row in before.sites if row.site not in plan.choices)
    new = _by_kind(row for row in after.sites if row.site not in plan.choices)
    kinds = [
        Line(
            _counted(kind, old.get(kind, [])), "", _sum(old.get(kind, [])), _sum(new.get(kind, [])), kind not in kinds_lacking
        )
        for kind in dict.fromkeys([*old, *new, *kinds_lacking])
    ]
    kinds = [line for line in kinds if line.before.bytes or line.after.bytes or not line.priced]
    return sites + sorted(kinds, key=lambda line: -float(line.before.bytes))


def cells(line: Line) -> dict[str, tuple[str, str]]:
    """rounds, bytes, seconds of a line, before and after, as text; "not priced" where the protocol before has no price."""
    written = {"rounds": count, "bytes": size, "seconds": duration}
    return {
        name: (write(getattr(line.before, name)) if line.priced else "not priced", write(getattr(line.after, name)))
        for name, write in written.items()
    }


def totals(before: Estimate, after: Estimate) -> dict[str, tuple[str, str, str]]:
    """rounds, bytes, seconds: before, after and their ratio as text, "at least" where the estimate before is a lower bound."""
    least = "at least " if before.unpriced else ""
    found = {}
    for name, write in {"rounds": count, "bytes": size, "seconds": duration}.items():
        old, new = float(getattr(before, name)), float(getattr(after, name))
        found[name] = least + write(old), write(new), least + times(old, new)
    return found


def unpriced(before: Estimate) -> str:
    """What the protocol before has no price for, in one sentence, "" if nothing: `crypten-stock has no price for log (2)`."""
    kinds = Counter(kind for _, kind in before.unpriced)
    listed = ", ".join(f"{kind} ({times})" if times > 1 else kind for kind, times in kinds.items())
    return f"{before.protocol} has no price for {listed}: its figures are lower bounds." if listed else ""


def by_operator(found: list[Line], plan: Plan) -> list[Line]:
    """The same lines with the sites summed by operator (`softmax (5)`), by decreasing bytes before."""
    groups: dict[str, list[Line]] = {}
    for line in found:
        groups.setdefault(site_operator(line.name) if line.name in plan.choices else line.name, []).append(line)
    joined = [
        Line(
            f"{name} ({len(group)})" if group[0].name in plan.choices else name,
            _tally(Counter(c.approximation for line in group for c in _choices(plan, line.name))),
            _total([line.before for line in group]),
            _total([line.after for line in group]),
            all(line.priced for line in group),
        )
        for name, group in groups.items()
    ]
    return sorted(joined, key=lambda line: -float(line.before.bytes))


def _tally(found: Counter[str]) -> str:
    """`gelu_spline 3, gelu_quad 2`; the number is left out where there is one approximation only."""
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{name} {times}" for name, times in found.most_common())


def describe(plan: Plan, site: str) -> str:
    """`gelu_even degree=4`: scalar options only; lists of coefficients are in plan.json.

    A split site lists its parts: `0,2: softmax_relu floor=0.1; 1,3: softmax_scaling`.
    """
    entry = plan.choices[site]
    if isinstance(entry, Choice):
        return _described(entry)
    return "; ".join(f"{part.label}: {_described(part.choice)}" for part in entry.parts)


def _described(choice: Choice) -> str:
    short = [f"{key}={_short(value)}" for key, value in choice.options.items() if isinstance(value, int | float | str)]
    return " ".join([choice.approximation, *short])


def names(plan: Plan, site: str) -> str:
    """`gelu_even`, or `softmax_relu (0,2), softmax_scaling (1,3)` for a split site: without options."""
    entry = plan.choices.get(site)
    if entry is None:
        return ""
    if isinstance(entry, Choice):
        return entry.approximation
    return ", ".join(f"{part.choice.approximation} ({part.label})" for part in entry.parts)


def _choices(plan: Plan, name: str) -> tuple[Choice, ...]:
    return plan.choices[name].choices if name in plan.choices else ()


def _short(value: int | float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _at(name: str, estimate: Estimate) -> PhaseCost:
    return _sum(row for row in estimate.sites if row.site == name)


def _by_kind(rows: Iterable[SiteCost]) -> dict[str, list[SiteCost]]:
    groups: dict[str, list[SiteCost]] = {}
    for row in rows:
        groups.setdefault(KINDS.get(row.kind, row.kind), []).append(row)
    return groups


def _counted(kind: str, rows: list[SiteCost]) -> str:
    return f"{kind} ({len(rows)})" if len(rows) > 1 else kind


def _sum(rows: Iterable[SiteCost]) -> PhaseCost:
    return _total([PhaseCost(row.rounds, row.bytes, row.seconds) for row in rows])


def _total(costs: list[PhaseCost]) -> PhaseCost:
    return PhaseCost(
        sum(cost.rounds for cost in costs), sum(cost.bytes for cost in costs), sum(cost.seconds for cost in costs)
    )
