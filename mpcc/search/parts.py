"""Sites in parts: which heads or tokens may choose for themselves, what each part costs, and what it loses.

A softmax is cut by heads, a GELU by tokens, into at most four parts: one each, or groups of those at which the cheapest
structural candidate errs alike. Only where a structural candidate and another one are left, since only such candidates differ
enough. A part's loss is its share of the site's: measured with that part alone replaced, scaled so that all parts
together do what the whole site does. So a sweep has at most four more runs for every structural candidate.

What a candidate costs in a part is its price at the site times the part of the positions, but for the work of its kernels that
knows no size: each form of a site pays that once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import fx

from mpcc.approximate import Approximation, Choice, Split
from mpcc.approximate.expand import site_function
from mpcc.approximate.plan import Part
from mpcc.approximate.recipe import positions
from mpcc.approximate.split import split_function
from mpcc.cost import Work
from mpcc.ir.nn import shape_of, sites, target_name

from .candidates import Candidate, Candidates
from .prices import Prices
from .problem import Option, Slot
from .replay import Function, Replay

CUT = ("softmax", "gelu")
MOST_PARTS = 4


@dataclass(frozen=True)
class Parts:
    """A site's positions along `dim`, ascending in each group; one group is a site that is not cut.

    `wrong`: the share of each group in the error that the cheapest structural candidate makes at the site.
    """

    dim: int
    groups: tuple[tuple[int, ...], ...]
    wrong: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Positions in all."""
        return sum(map(len, self.groups))

    @property
    def shares(self) -> tuple[float, ...]:
        """The part of the positions that each group has."""
        return tuple(len(group) / self.size for group in self.groups)

    def entry(self, choices: Sequence[Choice]) -> Choice | Split:
        """The choice or split in which each group has its choice."""
        if len(self.groups) == 1:
            return choices[0]
        own = {place: choice for group, choice in zip(self.groups, choices, strict=True) for place in group}
        return Split.of(self.dim, [own[place] for place in range(self.size)])


WHOLE = Parts(0, ((0,),))


@dataclass(frozen=True)
class Partly:
    """A choice for some positions of a site, the operator itself at the others."""

    choice: Choice
    dim: int
    index: tuple[int, ...]
    size: int

    def function(self, node: fx.Node, approximations: Mapping[str, Approximation]) -> Function:
        """The function of the site's operands."""
        exact: Any = node.target
        rest = tuple(place for place in range(self.size) if place not in self.index)
        split = Split(self.dim, (Part(self.index, self.choice), Part(rest, Choice("exact"))))
        return split_function(node, split, [site_function(node, self.choice, approximations), exact])


def cut(node: fx.Node, entry: Candidates, approximations: Mapping[str, Approximation], replay: Replay) -> Parts:
    """The parts of a site, by what its candidates do there; `WHOLE` where nothing can be gained."""
    operator = target_name(node)
    cheap = structural(entry, approximations)
    if operator not in CUT or not cheap or len(entry.kept) < 2:
        return WHOLE
    dim, count = positions(operator, "head" if operator == "softmax" else "token", shape_of(node))
    if count == 1:
        return WHOLE
    cheapest = min(cheap, key=lambda candidate: (candidate.work.bytes, candidate.work.rounds))
    wrong = replay.at(entry.site, site_function(node, cheapest.choice, approximations)) - replay.at(entry.site)
    errors = wrong.square().mean([d for d in range(wrong.dim()) if d != dim + 1])  # the calls come first
    if count <= MOST_PARTS:
        groups = tuple((place,) for place in range(count))
    else:
        ranked = errors.argsort(stable=True).tolist()
        bounds = [round(count * part / MOST_PARTS) for part in range(MOST_PARTS + 1)]
        groups = tuple(tuple(sorted(ranked[low:high])) for low, high in zip(bounds, bounds[1:], strict=False))
    return Parts(dim, groups, _normal([float(errors[list(group)].sum()) for group in groups]))


def _normal(values: Sequence[float]) -> tuple[float, ...]:
    """As shares of their sum; nothing where it is none."""
    total = sum(values)
    return tuple(value / total for value in values) if 0 < total < float("inf") else ()


def structural(entry: Candidates, approximations: Mapping[str, Approximation]) -> list[Candidate]:
    """The candidates of level structural."""
    return [candidate for candidate in entry.kept if approximations[candidate.choice.approximation].level == "structural"]


def alone(
    found: Mapping[str, Candidates], parts: Mapping[str, Parts], approximations: Mapping[str, Approximation]
) -> dict[str, list[Partly]]:
    """Site -> every structural candidate in every part alone: what the sweep has to measure."""
    return {
        site: [
            Partly(candidate.choice, parts[site].dim, group, parts[site].size)
            for candidate in structural(entry, approximations)
            for group in parts[site].groups
        ]
        for site, entry in found.items()
        if len(parts[site].groups) > 1
    }


def with_shares(
    entry: Candidates, parts: Parts, losses: Sequence[float], approximations: Mapping[str, Approximation]
) -> Candidates:
    """Members with the share of each part in their loss; `losses` in the order of `alone`.

    Without any, what parts were too many to be measured: by their errors at the site.
    """
    count, done = len(parts.groups), 0
    candidates = []
    for candidate in entry.kept:
        shares = parts.shares
        if approximations[candidate.choice.approximation].level == "structural":
            shares = _normal(losses[done * count : (done + 1) * count]) or parts.wrong or shares
            done += 1
        candidates.append(replace(candidate, shares=shares))
    return replace(entry, kept=tuple(candidates))


def slots_of(entry: Candidates, parts: Parts, prices: Prices) -> tuple[Slot, ...]:
    """The slots of a site: one for each part, with the candidates as options in each."""
    if len(parts.groups) == 1:
        return (Slot(entry.site, tuple(Option(candidate.work, candidate.loss) for candidate in entry.kept)),)
    each = [_priced(entry.site, candidate, prices) for candidate in entry.kept]
    return tuple(
        Slot(
            entry.site,
            tuple(
                Option(Work(of.rounds, of.bytes * share, of.local_seconds * share), m.loss * m.shares[part], True, form, once)
                for form, (m, (of, once)) in enumerate(zip(entry.kept, each, strict=True))
            ),
        )
        for part, share in enumerate(parts.shares)
    )


def _priced(site: str, candidate: Candidate, prices: Prices) -> tuple[Work, Work]:
    """(what goes by the positions, what is paid once) of a candidate. One operator after the other, rounds are paid once too."""
    work, once = candidate.work, min(prices.once(site, candidate.choice), float(candidate.work.local_seconds))
    rounds = (work.rounds, 0.0) if prices.parallel else (0.0, work.rounds)
    return Work(rounds[0], work.bytes, work.local_seconds - once), Work(rounds[1], 0.0, once)


def parted(
    graph_module: fx.GraphModule, found: Mapping[str, Candidates], approximations: Mapping[str, Approximation], replay: Replay
) -> dict[str, Parts]:
    """Site -> its parts, for every site."""
    nodes = sites(graph_module)
    return {site: cut(nodes[site], entry, approximations, replay) for site, entry in found.items()}
