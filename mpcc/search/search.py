"""A search of one model: what was measured, what there is to choose from, and the plan of least loss to start from.

candidates (priced, how wrong) -> sensitivity (what that does to the outputs) -> programme -> plans that are run in float,
changed, and run again (`mpcc.search.explorer`) -> whole programs -> judged on inputs that chose nothing

`mpcc.search.questions` asks it for plans, `mpcc.search.pareto` for a whole front.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mpcc import registry
from mpcc.errors import RangeError

from .bars import banned
from .effort import FEWEST, Effort
from .explorer import Explorer
from .judge import Judge
from .measurements import measure
from .moves import GAP, LOSS
from .prices import Prices
from .pricing import place_work
from .problem import Picks, Problem, Weights
from .replay import Replay
from .sensitivity import MOST_CALLS, batches
from .solver import solve
from .space import space_of
from .task import Task
from .trials import Trials

PLACE_ELEMENTS = 1 << 25
"""Values of the calls from which ranges of neighbourhoods and errors at sites are taken: 128 MB of float32, kept throughout."""
TIE_SPEED, TIE_LOSS = 1e-9, 1e-12
"""Of two plans equal in what is asked for, the better one in the other measure: less than any difference that was measured."""


@dataclass(frozen=True)
class Search:
    """`problem` without what cannot be made, `exact` the plan of least loss. Asking never changes a search."""

    trials: Trials
    problem: Problem
    exact: Picks

    @staticmethod
    def of(task: Task, other: Search | None = None) -> Search:
        """Measured and priced. What another search of the same model measured serves here too."""
        calls = tuple(column[:MOST_CALLS] for column in task.columns)
        replay = Replay(task.graph, batches(task.graph, calls, PLACE_ELEMENTS)[0])
        prices = Prices(
            task.graph, replay, registry.approximations(), lambda graph, calls: place_work(task, graph, calls),
            task.protocol.concurrent,
        )  # fmt: skip
        if other is None:
            measurements = measure(task, replay, prices)
            trials = Trials(task, measurements, space_of(task, measurements, prices), Judge(task))
        else:
            known = other.trials
            space = space_of(task, known.measurements, prices)
            trials = Trials(task, known.measurements, space, known.judge, known.sound)
        exact, problem = least(trials, trials.space.problem, LOSS + trials.speed * TIE_SPEED)
        return Search(trials, problem, exact)

    def under(self, task: Task) -> Search:
        """The same search for another protocol, network or machine: only prices are worked out anew."""
        own = self.trials.task
        if (task.protocol, task.compute) == (own.protocol, own.compute):  # a network changes no work
            return replace(self, trials=self.trials.on(task))
        return Search.of(task, self)

    def explorer(self, weights: Weights, part: float = 1.0) -> Explorer:
        """What tries plans, in the unit of these weights, with that part of the effort."""
        trials, task = self.trials, self.trials.task
        calls = len(trials.measurements.sensitivity.columns[0])
        walker = trials.walker()
        effort = Effort.of(task.graph, calls, part * task.effort, task.mends) if walker is not None else Effort(FEWEST)
        return Explorer(walker, self.problem, weights, effort, self.exact, trials.work(self.exact))

    def cheapest(self, weights: Weights) -> tuple[Picks, Problem]:
        """The plan that costs least, whatever it loses, and the problem without what cannot be made."""
        return least(self.trials, self.problem, weights + LOSS * TIE_LOSS)


def least(trials: Trials, problem: Problem, objective: Weights) -> tuple[Picks, Problem]:
    """The plan of least objective among those that can be made, and the problem without the others, priced as that plan is."""
    while True:
        found = solve(problem.whole, objective, (), GAP)
        assert found is not None, "every slot keeps a usable option"
        picks = problem.in_parts(found)
        try:
            trials.examined(picks)
        except RangeError as error:
            problem = banned(problem, picks, error)
            continue
        return picks, problem.corrected_to(picks, trials.work(picks))
