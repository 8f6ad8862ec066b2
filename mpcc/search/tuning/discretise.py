"""From scores to picks: one candidate for every position of every gate.

MPCViT keeps the first candidate at the share mu of all positions of the model with the largest alpha (not a share of each
layer). The programme maximises the sum of log weights under the budget: a site takes the rounds of its slowest part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy import optimize, sparse
from torch import Tensor

from .latency import Prices
from .mixture import Gate

Picks = dict[str, tuple[int, ...]]
LEAST = 1e-6  # a weight below it counts as that much


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


def by_programme(gates: Sequence[Gate], weights: Mapping[str, Tensor], prices: Prices, most: float) -> Picks | None:
    """The picks of least lost score whose predicted cost is at most `most`; None if there are none."""
    columns = [(g, p, k) for g in gates for p in range(g.positions) for k in range(len(g.candidates))]
    place = {(g.site, p, k): index for index, (g, p, k) in enumerate(columns)}
    slowest = {g.site: len(columns) + index for index, g in enumerate(gates)}
    costs, cost_row = np.zeros(len(columns) + len(gates)), np.zeros(len(columns) + len(gates))
    rows: list[tuple[dict[int, float], float, float]] = []
    for g in gates:
        price, logs = prices.sites[g.site], weights[g.site].clamp(min=LEAST).log().tolist()
        cost_row[slowest[g.site]] = prices.per_round
        for p in range(g.positions):
            own = [place[g.site, p, k] for k in range(len(g.candidates))]
            rows.append((dict.fromkeys(own, 1.0), 1.0, 1.0))
            rows.append(({slowest[g.site]: 1.0, **{c: -price.rounds[k] for k, c in enumerate(own)}}, 0.0, np.inf))
            for k, column in enumerate(own):
                costs[column], cost_row[column] = -logs[p][k] / g.positions, price.rest[k] / g.positions
    scale = max(abs(most - prices.base), 1e-9)
    rows.append(({i: v / scale for i, v in enumerate(cost_row) if v}, -np.inf, (most - prices.base) / scale))
    entries = [(r, c, v) for r, (row, _, _) in enumerate(rows) for c, v in row.items()]
    r, c, v = zip(*entries, strict=True)
    binary = np.arange(len(costs)) < len(columns)
    found = optimize.milp(
        costs,
        integrality=binary.astype(int),
        bounds=optimize.Bounds(np.where(binary, 0.0, -np.inf), np.where(binary, 1.0, np.inf)),
        constraints=optimize.LinearConstraint(
            sparse.csr_matrix((v, (r, c)), shape=(len(rows), len(costs))), [row[1] for row in rows], [row[2] for row in rows]
        ),
    )
    if found.x is None:
        return None
    return {
        g.site: tuple(
            max(range(len(g.candidates)), key=lambda k: found.x[place[g.site, p, k]]) for p in range(g.positions)
        )
        for g in gates
    }
