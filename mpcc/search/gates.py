"""Spline gates without a search: at each site where they take less time than the choice there, by the price of its neighbourhood.

    with_gates(plan, task)  -> the plan with `gelu_grid` for `gelu_spline` where that is faster on the task's network and machine

A gate saves rounds and bytes and costs local work, so that it depends on both which is faster: on a wide-area network a gate,
nearly always; on one machine, without the compiled form of gates, mostly not.
"""

from __future__ import annotations

from mpcc import registry
from mpcc.approximate import Choice, Plan
from mpcc.errors import MpccError

from .default_plan import GOOD, applicable, declared
from .layouts import laid_out, layouts
from .prices import Prices
from .pricing import Priced, fastest, place_work, seconds_of
from .replay import Replay
from .sensitivity import batches
from .task import Task

MOST_CALLS = 8
"""From which the ranges of neighbourhoods are taken: they are lowered for their price only."""
PLACE_ELEMENTS = 1 << 25
"""As in a search (`mpcc.search.search`)."""


def quickest(plan: Plan, task: Task) -> Priced:
    """The fastest layout of a plan with gates where these are faster. PrecisionError where none is precise enough."""
    known = registry.approximations()
    gated = with_gates(plan, task)
    if gated is not None:
        try:
            return fastest(layouts(gated, known), task)
        except MpccError:  # too coarse in fixed point, or an input leaves a grid
            pass
    return fastest(layouts(plan, known), task)


def with_gates(plan: Plan, task: Task) -> Plan | None:
    """The plan with gates where these are faster; None where there are none."""
    if not task.protocol.scheduled:
        return None
    known = registry.approximations()
    gates = {one.operator: one for one in known.values() if one.gate}
    calls = tuple(column[:MOST_CALLS] for column in task.columns)
    replay = Replay(task.graph, batches(task.graph, calls, PLACE_ELEMENTS)[0])
    prices = Prices(
        task.graph, replay, known, lambda graph, calls: place_work(task, graph, calls), task.protocol.concurrent
    )
    speed, choices = seconds_of(task.protocol, task.network), dict(plan.choices)
    for site, choice in plan.choices.items():
        seen = task.statistics[site]
        if not isinstance(choice, Choice) or seen.site.operator not in gates:
            continue
        for gate, candidates in applicable(seen, [gates[seen.site.operator]], task.level).values():
            other = Choice(gate.name, dict(candidates[0]))
            if declared(gate, other.options) > GOOD:
                continue
            try:
                own = min(speed.of(prices(site, one), 0.0) for one in laid_out(choice, known))
                if speed.of(prices(site, other), 0.0) < own:
                    choices[site] = other
            except MpccError:  # it cannot be lowered there: the choice stays
                continue
    return None if choices == dict(plan.choices) else Plan(choices, plan.notes)
