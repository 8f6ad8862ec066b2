"""Candidates at the gates: their prices before training, and the picks that trained scores give.

Prices of single sites do not add up to the price of a program, so picks under a budget are made into a whole program and
priced exactly; what the integer program may spend is then corrected until its picks take what the budget allows.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor, fx

from mpcc import registry
from mpcc.cost import Budget, Estimate
from mpcc.errors import BudgetError, MpccError, RangeError
from mpcc.search.pricing import reached

from .discretise import Picks, by_milp, by_ratio
from .latency import Prices, measured
from .mixture import weights_of
from .setup import Setup

RESERVE = 0.98
"""Share of the budget that the search may use: what is fitted after training may be a little more expensive than before."""
SLACK = 0.02
"""Share of the budget that picks may leave unused before the search for better ones stops."""
TRIES = 8


def prices_of(setup: Setup) -> Prices:
    """What each candidate costs. BudgetError where even the cheapest choice exceeds the budget."""
    firsts = {gate.site: 0 for gate in setup.gates}
    request = setup.request

    def estimate(chosen: Mapping[str, int]) -> Estimate:
        return setup.estimate({gate.site: (({**firsts, **chosen})[gate.site],) * gate.positions for gate in setup.gates})

    per_round = registry.protocol(request.protocol).rtt_per_round * request.network.rtt_seconds
    found = measured(setup.gates, estimate, request.budget or Budget.parse("1s"), per_round)
    if request.budget is None or request.recipe.choice != "budget":
        return found

    def cost(site: str, k: int) -> float:
        return found.picked({**{name: (first,) for name, first in firsts.items()}, site: (k,)})

    cheapest = {gate.site: min(range(len(gate.candidates)), key=lambda k: cost(gate.site, k)) for gate in setup.gates}  # noqa: B023
    try:
        least = estimate(cheapest)
    except RangeError:  # this choice can be made only once it is trained
        return found
    if request.budget.spent(least) > request.budget.amount * RESERVE:
        raise BudgetError(
            f"the recipe {request.recipe.name} cannot meet the budget of {request.budget}",
            hint=f"The cheapest it can reach: {reached(least)}",
        )
    return found


def choose(setup: Setup, weights: Mapping[str, Tensor], prices: Prices, student: fx.GraphModule) -> Picks:
    """The picks of trained scores: site -> weights [positions, candidates]."""
    request = setup.request
    if request.recipe.choice == "share":
        assert request.share is not None
        return by_ratio(setup.gates, weights, request.share)
    assert request.budget is not None
    budget, limit = request.budget, request.budget.amount * RESERVE
    fitting: list[tuple[float, Picks]] = []
    seen = set[tuple[tuple[int, ...], ...]]()
    for _ in range(TRIES):
        picks = by_milp(setup.gates, weights, prices, limit)
        if picks is None or tuple(picks.values()) in seen:
            break
        seen.add(tuple(picks.values()))
        excess = _excess(setup, picks, student, budget)
        if excess <= 0:
            fitting.append((limit, picks))
        if -SLACK * budget.amount < excess <= 0:
            break
        limit -= excess * 1.001  # a little more, so that a repeated limit does not repeat the picks
    if not fitting:
        raise BudgetError(f"no choice meets the budget of {budget} as a whole program", hint="Give a larger --budget.")
    return max(fitting, key=lambda one: one[0])[1]


def _excess(setup: Setup, picks: Picks, student: fx.GraphModule, budget: Budget) -> float:
    """How far the program of the picks exceeds the reserve. 0 where the weights, not yet trained for these picks, cannot be
    fitted: the prediction has to do, and the budget is checked again at the end."""
    try:
        return budget.spent(setup.estimate(picks, with_weights(setup, student))) - budget.amount * RESERVE
    except MpccError:
        return 0.0


def with_weights(setup: Setup, student: fx.GraphModule) -> fx.GraphModule:
    """The rewritten graph with the student's weights."""
    trained = copy.deepcopy(setup.base)
    load_weights(trained, weights_of(student))
    return trained


def load_weights(module: fx.GraphModule, weights: Mapping[str, Tensor]) -> None:
    """Copy the weights that the module has by the same names."""
    own = dict(module.named_parameters())
    for name, value in weights.items():
        if name in own:
            own[name].detach().copy_(value)
