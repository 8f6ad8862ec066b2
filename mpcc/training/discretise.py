"""From scores to picks: one candidate for every position of every gate.

MPCViT keeps the first candidate at the share mu of all positions of the model with the largest alpha (not a share of each
layer). Under a budget, an integer program maximises the sum of log weights; the rounds of a site are those of its slowest
part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mpcc.cost import Work
from mpcc.search.problem import Edge, Limit, Option, Problem, Slot, Weights
from mpcc.search.solver import solve

from .latency import Prices
from .mixture import Gate

Picks = dict[str, tuple[int, ...]]
SMALLEST_WEIGHT = 1e-6  # keeps logarithms finite


def by_ratio(gates: Sequence[Gate], weights: Mapping[str, Tensor], mu: float) -> Picks:
    """The first candidate where the score is among the mu * count largest of its operator, over all layers."""
    picks: Picks = {}
    for operator in dict.fromkeys(gate.operator for gate in gates):
        chosen = [gate for gate in gates if gate.operator == operator]
        scores = torch.cat([weights[gate.site][:, 0] for gate in chosen])
        kept = torch.zeros(len(scores), dtype=torch.bool)
        kept[scores.argsort(descending=True, stable=True)[: round(mu * len(scores))]] = True
        for gate, part in zip(chosen, torch.split(kept, [gate.positions for gate in chosen]), strict=True):
            picks[gate.site] = tuple(0 if k else 1 for k in part.tolist())
    return picks


def by_milp(gates: Sequence[Gate], weights: Mapping[str, Tensor], prices: Prices, limit: float) -> Picks | None:
    """The picks with the largest sum of log weights whose predicted cost is at most `limit`; None if there are none.

    A position is a slot of `mpcc.search.solver`: the lost score is its loss; bytes stand for all of its cost but rounds.
    """
    slots: list[Slot] = []
    fewest: dict[str, float] = {}
    for g in gates:
        price, logs = prices.sites[g.site], weights[g.site].clamp(min=SMALLEST_WEIGHT).log().tolist()
        fewest[g.site] = min(price.rounds)
        works = [Work(r - fewest[g.site], rest / g.positions) for r, rest in zip(price.rounds, price.rest, strict=True)]
        for row in logs:
            slots.append(Slot(g.site, tuple(Option(w, -log / g.positions) for w, log in zip(works, row, strict=True))))
    names = [None, *fewest, None]
    chain = tuple(Edge(source, target, 0.0) for source, target in pairwise(names))
    problem = Problem(tuple(slots), chain, Work(sum(fewest.values()), prices.base))
    found = solve(problem, Weights(loss=1.0), [Limit(Weights(rounds=prices.per_round, bytes=1.0), limit)])
    if found is None:
        return None
    return {site: tuple(found[p] for p in positions) for site, positions in problem.sites.items()}
