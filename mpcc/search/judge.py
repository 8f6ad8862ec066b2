"""What plans do on calibration inputs that choose none of their sites: once a plan, for all protocols and networks."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property

from mpcc import registry
from mpcc.approximate import Plan
from mpcc.compensate import QUICK, compensated
from mpcc.compensate import Judge as Compared
from mpcc.errors import RangeError

from .measurements import on_calls
from .metrics import correct
from .recipes import recipe_plan
from .replay import Outputs
from .sensitivity import Sensitivity, affordable_calls
from .task import Task

MOST_JUDGED, JUDGEMENTS = 512, 40
"""Inputs that judge a plan, at most: the standard error of a drop of 1 % is then 0.4 %. And as many runs of the whole graph as
must fit into the time of one sweep: a front judges some 8 points, 12 recipes and two to three trials for each."""


class Judge:
    """Loss and drop of any plan of a model, and the plans of published recipes for it."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._seen: dict[str, tuple[float, float, float]] = {}
        self._recipes: dict[str, Plan] = {}

    @cached_property
    def _sensitivity(self) -> Sensitivity:
        task, runs = self._task, {"": [None] * JUDGEMENTS}
        calls = affordable_calls(task.graph, runs, True, min(MOST_JUDGED, task.real - task.apart))
        return on_calls(task, calls, task.apart)

    @property
    def images(self) -> int:
        """The calibration inputs that it looks at: where there are enough, none of those that losses were measured on."""
        return len(self._sensitivity.columns[0])

    def __call__(self, plan: Plan) -> tuple[float, float]:
        """(loss, drop) of a plan."""
        return self._judged(plan)[:2]

    def accuracy(self, plan: Plan) -> tuple[float, float] | None:
        """(of the model as it was, of a plan), as shares; None where no labels are known."""
        labels = self._task.metric.labels
        if labels is None:
            return None
        return correct(self._sensitivity.reference, labels[self._calls]), self._judged(plan)[2]

    @property
    def _calls(self) -> slice:
        return slice(self._task.apart, self._task.apart + self.images)

    def _judged(self, plan: Plan) -> tuple[float, float, float]:
        key = plan.key
        if key not in self._seen:
            metric, reference = self._task.metric.on(self._calls), self._sensitivity.reference
            outputs, labels = self._outputs(plan), self._task.metric.labels
            right = math.nan if labels is None else correct(outputs, labels[self._calls])
            self._seen[key] = metric.loss(outputs, reference), metric.drop(outputs, reference), right
        return self._seen[key]

    def _outputs(self, plan: Plan) -> Outputs:
        """What a plan gives on the inputs that judge, compensated on those that do not."""
        task, plain = self._task, self._sensitivity
        if not task.mends:
            return plain.joint(plan.choices)
        judge = Compared(task.metric.loss, task.metric.drop, task.metric.drop_name)  # takes what loses less: drops are not read
        given = list(zip(*(column[: task.apart] for column in task.columns), strict=True))
        try:
            found = compensated(task.graph, plan, given, registry.approximations(), judge, effort=QUICK)
        except RangeError:
            return plain.joint(plan.choices)
        return replace(plain, module=found.graph).joint(found.plan.choices)

    def recipe(self, name: str) -> Plan:
        """The plan of a published recipe. MpccError where it cannot be made."""
        if name not in self._recipes:
            task = self._task
            known, synthetic = registry.approximations(), not task.calibrated
            self._recipes[name] = recipe_plan(name, task.graph, task.inputs, known, synthetic=synthetic)
        return self._recipes[name]
