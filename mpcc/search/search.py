"""A search of one model: what was measured, what there is to choose from, and the problem as corrected by what was tried.

candidates (priced, how wrong) -> sensitivity (what that does to the outputs) -> solver -> whole program, joint loss
-> corrected problem -> solver again ...

`mpcc.search.questions` asks it for plans, `mpcc.search.pareto` for a whole front.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mpcc import registry

from .judge import Judge
from .measurements import measure
from .prices import Prices
from .pricing import place_work
from .problem import Problem
from .repair import Trial, most_exact
from .replay import Replay
from .sensitivity import MOST_CALLS, batches
from .space import space_of
from .task import Task
from .trials import Trials

PLACE_ELEMENTS = 1 << 25
"""Values of the calls from which ranges of neighbourhoods and errors at sites are taken: 128 MB of float32, kept throughout."""


@dataclass(frozen=True)
class Search:
    """`problem` as corrected so far, `exact` the plan of least loss. Asking gives a new search, never changes this one."""

    trials: Trials
    problem: Problem
    exact: Trial

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
        exact, problem = most_exact(trials.space.problem, trials.speed, trials.tools)
        return Search(trials, problem.corrected_to(exact.picks, exact.work), exact)

    def under(self, task: Task) -> Search:
        """The same search for another protocol, network or machine: only prices are worked out anew."""
        own = self.trials.task
        if (task.protocol, task.compute) == (own.protocol, own.compute):  # a network changes no work
            return replace(self, trials=self.trials.on(task))
        return Search.of(task, self)
