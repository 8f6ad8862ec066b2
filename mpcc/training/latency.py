"""The predicted cost of a mixture as a differentiable function of its weights.

    cost = base + sum over sites of  smoothmax over positions (sum over k of w[p, k] rounds[k]) * latency
                                   + mean over positions   (sum over k of w[p, k] rest[k])

`rounds[k]` and `rest[k]` (bytes and local work) are those of a whole program in which one of a group of similar sites takes
candidate k, minus those of the base program. Parts of a site run in parallel, so a site takes the rounds of its slowest
part: a cheaper head saves no round until the last head is as cheap. Bytes add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mpcc.cost import Budget, Estimate
from mpcc.errors import RangeError
from mpcc.ir.nn import shape_of

from .mixture import Gate

SHARPNESS = 2.0  # per round: how near the smooth maximum is to the maximum


@dataclass(frozen=True)
class SitePrice:
    """One site, for each candidate: the rounds that it adds to the base program, and the rest in the budget's unit."""

    rounds: tuple[float, ...]
    rest: tuple[float, ...]


@dataclass(frozen=True)
class Prices:
    """`base` in the budget's unit, with candidate `first` of every gate; `per_round` in that unit."""

    base: float
    per_round: float
    sites: Mapping[str, SitePrice]

    def predicted(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The cost of a mixture; `weights` [positions, candidates] by site."""
        total = torch.tensor(self.base)
        for site, price in self.sites.items():
            w = weights[site]
            rounds = w @ torch.tensor(price.rounds)
            share = (SHARPNESS * rounds).softmax(0)
            total = total + self.per_round * (share * rounds).sum() + (w @ torch.tensor(price.rest)).mean()
        return total

    def picked(self, picks: Mapping[str, Sequence[int]]) -> float:
        """The cost once every position has its candidate."""
        total = self.base
        for site, price in self.sites.items():
            chosen = picks[site]
            total += self.per_round * max(price.rounds[k] for k in chosen)
            total += sum(price.rest[k] for k in chosen) / len(chosen)
        return total


def measured(
    gates: Sequence[Gate], estimate: Callable[[Mapping[str, int]], Estimate], unit: Budget, per_round: float
) -> Prices:
    """Prices from whole programs: the base program, and one for each candidate at one site of each group of similar sites.

    `estimate` prices the program in which the given sites take the given candidates and all others their first.
    `per_round`: seconds of a round. The model is not trained for the candidate yet, so values behind it may leave their range:
    the last site of a group is tried first, since the least comes after it, then the one before.
    """
    each = {"seconds": per_round, "rounds": 1.0, "bytes": 0.0}[unit.unit]
    base = estimate({})
    groups: dict[object, list[Gate]] = {}
    for gate in gates:
        similar = (gate.operator, shape_of(gate.node), tuple(c.name for c in gate.candidates))
        groups.setdefault(similar, []).append(gate)
    sites: dict[str, SitePrice] = {}
    for group in groups.values():
        rounds, rest = [0.0], [0.0]
        for k in range(1, len(group[0].candidates)):
            found = _first_made(estimate, [{gate.site: k} for gate in reversed(group)])
            more = float(found.rounds) - float(base.rounds)
            rounds.append(more)
            rest.append(unit.spent(found) - unit.spent(base) - each * more)
        sites |= {gate.site: SitePrice(tuple(rounds), tuple(rest)) for gate in group}
    return Prices(unit.spent(base), each, sites)


def _first_made(estimate: Callable[[Mapping[str, int]], Estimate], choices: Sequence[Mapping[str, int]]) -> Estimate:
    for chosen in choices:
        try:
            return estimate(chosen)
        except RangeError as error:
            refused = error
    raise refused
