"""How much a search may try: a number of runs of the model, so that the same seed gives the same plan on every machine.

Seconds are turned into runs by what a run of this model takes on the machine that the constants were measured on. The clock,
which counts processor time so that other work on the machine changes nothing, and Ctrl-C only end a search early; its answer
is then the best plan so far, and says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from torch import fx

from mpcc.cost import uses
from mpcc.cost.price import Call
from mpcc.cost.protocol import multiply_adds
from mpcc.ir.nn import sites

DEFAULT = 30.0
"""Seconds: some 300 runs of a model of the zoo, three to four sweeps over its sites."""
SECONDS_A_MAC, SECONDS_A_SITE = 1.2e-10, 8e-3
"""Of a run in which every choice is fitted anew: of a float product, and of what a site measures and fits. A run of models of the
zoo with 17 sites on 64 inputs then takes 0.1 s, which it took on one core of a busy machine. A change of one site runs half."""
MENDING = 1.5
"""Times as long as a run takes if layers behind structural choices get new weights, on twice the calls: 1.35 to 2.5 times on
benchmarks/zoo's pre_norm, where the constants above are 1.25 to 2 times too large."""
FEWEST = 12
"""Runs of a model that is too large for more."""
PATIENCE = 3.0
"""Times the seconds asked for after which the clock ends a search, on machines that are slower than the reference."""


class Effort:
    """Runs that are left. `stopped`: the clock or the user ended it before they were used up."""

    def __init__(self, runs: int, seconds: float = math.inf, now: Callable[[], float] = time.thread_time) -> None:
        self.runs, self.used, self.stopped, self.seconds = runs, 0, False, seconds
        self._now, self._end = now, now() + seconds

    @staticmethod
    def of(graph_module: fx.GraphModule, calls: int, seconds: float, mends: bool = False) -> Effort:
        """What `seconds` give for runs of a graph over so many calls; `mends`: layers get new weights on the way."""
        once = seconds_of_a_run(graph_module, calls) * (MENDING if mends else 1.0)
        return Effort(max(FEWEST, int(seconds / once)), PATIENCE * seconds)

    @property
    def left(self) -> int:
        """Runs that may still be made."""
        if not self.stopped and self.used < self.runs and self._now() > self._end:
            self.stopped = True
        return 0 if self.stopped else self.runs - self.used

    def allow(self, further: int) -> None:
        """So many further budgets of the same question: the programs of each take time besides its runs."""
        self._end += further * self.seconds / PATIENCE

    def use(self) -> None:
        """One more run was made."""
        self.used += 1

    def stop(self) -> None:
        """What there is must do."""
        self.stopped = True


def multiply_accumulates(graph_module: fx.GraphModule) -> float:
    """Of one call of a graph."""
    calls = (Call(use.primitive, use.shapes, use.visibility, use.output, use.attrs) for use in uses(graph_module))
    return sum(float(multiply_adds(call)) for call in calls)


def seconds_of_a_run(graph_module: fx.GraphModule, calls: int) -> float:
    """What a run after a change at one site takes, on average over the sites."""
    whole = SECONDS_A_MAC * multiply_accumulates(graph_module) * calls + SECONDS_A_SITE * len(sites(graph_module))
    return whole / 2
