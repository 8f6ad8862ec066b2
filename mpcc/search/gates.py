"""Spline gates without a search: at each site where they take less time than the choice there, by the price of its neighbourhood.

    with_gates(plan, task)  -> the plan with `gelu_grid` for `gelu_spline` where that is faster on the task's network and machine

A gate saves rounds and bytes and costs local work, so that it depends on both which is faster: on a wide-area network a gate,
nearly always; on one machine, without the compiled form of gates, mostly not.
"""

from __future__ import annotations

from mpcc import registry
from mpcc.approximate import Approximation, Choice, Plan
from mpcc.errors import MpccError

from .default_plan import GOOD, applicable, declared
from .layouts import laid_out, layouts
from .prices import Prices
from .pricing import Priced, fastest, made, place_work, seconds_of
from .replay import Replay
from .sensitivity import batches
from .task import Task

EQUAL = 1.1
"""Times what the choice takes, up to which a gate is taken: rounds are exact, and local seconds are predicted to a tenth."""
MOST_CALLS = 8
"""From which the ranges of neighbourhoods are taken: they are lowered for their price only."""
PLACE_ELEMENTS = 1 << 25
"""As in a search (`mpcc.search.search`)."""


def quickest(plan: Plan, task: Task) -> Priced:
    """The fastest layout of a plan with gates where these are faster. PrecisionError where none is precise enough.

    Where the noise on outputs cannot hide the steps of these gates in as many answers as are asked for, the gates are finer."""
    known = registry.approximations()
    gated = with_gates(plan, task)
    if gated is not None:
        try:
            return hiding(fastest(layouts(gated, known), task), task)
        except MpccError:  # too coarse in fixed point, or an input leaves a grid
            pass
    return fastest(layouts(plan, known), task)


def hiding(best: Priced, task: Task) -> Priced:
    """The plan with its gates on their finest grids, if its noise hides fewer answers than are asked for, and then more."""
    if (best.program.hidden or 0) >= task.settings.answers:
        return best
    known, choices = registry.approximations(), dict(best.plan.choices)
    for site, choice in best.plan.choices.items():
        if isinstance(choice, Choice) and known[choice.approximation].gate:
            for gate, candidates in applicable(task.statistics[site], [known[choice.approximation]], task.level).values():
                finest = min(candidates, key=lambda options: declared(gate, options))
                choices[site] = Choice(gate.name, {**choice.options, **finest})
    if choices == dict(best.plan.choices):
        return best
    try:
        finer = made(task, Plan(choices, best.plan.notes))
    except MpccError:
        return best
    return finer if (finer.program.hidden or 0) > (best.program.hidden or 0) else best


def with_gates(plan: Plan, task: Task) -> Plan | None:
    """The plan with gates where these are faster; None where there are none."""
    if not task.protocol.scheduled:
        return None
    known = registry.approximations()
    gates = dict[str, list[Approximation]]()
    for one in known.values():
        if one.gate and one.level != "structural":
            gates.setdefault(one.operator, []).append(one)
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
        for gate, candidates in applicable(seen, gates[seen.site.operator], task.level).values():
            other = Choice(gate.name, dict(candidates[0]))
            if declared(gate, other.options) > GOOD:
                continue
            try:
                own = min(speed.of(prices(site, one), 0.0) for one in laid_out(choice, known))
                if speed.of(prices(site, other), 0.0) < EQUAL * own:
                    choices[site] = choice = other
            except MpccError:  # it cannot be lowered there: the choice stays
                continue
    return None if choices == dict(plan.choices) else Plan(choices, plan.notes)
