"""Picks made a plan: fitted to all inputs, run on somewhat larger ones, priced as a whole program, judged. Each of these once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch

from mpcc import registry
from mpcc.approximate import Choice, Plan, SiteStatistics, Split
from mpcc.approximate.logit_margin import STRETCH
from mpcc.calibration.ranges import Inputs
from mpcc.calibration.sequential_fit import fit_sequentially
from mpcc.compensate import Mender
from mpcc.cost import Estimate, Work

from .candidates import refitted
from .judge import Judge
from .measurements import Measurements
from .pricing import made, priced, seconds_of, work_of
from .problem import Picks
from .replay import Outputs
from .runaway import Runaway, causes
from .sensitivity import Sensitivity
from .space import Space
from .task import Point, Task
from .walk import Walker


class Trials:
    """What the search may ask of picks. It remembers answers, and no answer depends on what was asked before."""

    def __init__(self, task: Task, measurements: Measurements, space: Space, judge: Judge, sound: set[str] | None = None) -> None:
        """`sound`: plans of which a program is known to exist, under whatever protocol."""
        self.task, self.measurements, self.space, self.judge = task, measurements, space, judge
        self.known = registry.approximations()
        self.speed = seconds_of(task.protocol, task.network)
        self.sound = set() if sound is None else sound
        self._estimates: dict[Picks, Estimate] = {}
        self._plans: dict[Picks, Plan] = {}

    def on(self, task: Task) -> Trials:
        """The same for a task that differs in its network or machine alone: plans stay what they are."""
        other = Trials(task, self.measurements, self.space, self.judge, self.sound)
        other._plans = self._plans
        return other

    @property
    def tried(self) -> int:
        """Programs that were priced."""
        return len(self._estimates)

    def plan(self, picks: Picks) -> Plan:
        """The picks as a plan. Behind a structural choice every candidate is fitted to what its site sees then."""
        if picks not in self._plans:
            self._plans[picks] = self._fitted(picks, self.task.subset)
        return self._plans[picks]

    def settled(self, picks: Picks) -> tuple[Plan, Estimate]:
        """The plan fitted to all inputs, and what its program costs. RangeError where that cannot be made."""
        task = self.task
        if task.draft_program is task.program:
            return self.plan(picks), self.estimate(picks)
        plan = self.plan(picks) if task.subset is task.inputs else self._fitted(picks, task.inputs)
        return plan, made(task, plan).estimate

    def _fitted(self, picks: Picks, inputs: Inputs) -> Plan:
        candidates, parts, changed = self.space.picked(picks), self.space.parts, False
        levels = {site: {self.known[m.choice.approximation].level for m in row} for site, row in candidates.items()}
        if not any("structural" in found for found in levels.values()):
            return Plan({site: parts[site].entry([m.choice for m in row]) for site, row in candidates.items()})

        def choose(seen: SiteStatistics) -> Choice | Split:
            nonlocal changed
            site = seen.site.name
            choices = [refitted(candidate, seen, self.known) if changed else candidate.choice for candidate in candidates[site]]
            changed = changed or "structural" in levels[site]
            return parts[site].entry(choices)

        return fit_sequentially(self.task.graph, inputs, choose, self.known, not self.task.calibrated)

    def choices(self, picks: Picks) -> Mapping[str, Choice | Split]:
        """Site -> choice or split."""
        return self.plan(picks).choices

    # -- cost --

    def estimate(self, picks: Picks) -> Estimate:
        """The cost of the whole program, or of its draft. RangeError where it cannot be made, whatever the protocol."""
        if picks not in self._estimates:
            plan, task = self.plan(picks), replace(self.task, program=self.task.draft_program)
            key = plan.key
            if not task.protocol.scheduled and key not in self.sound:
                task.program(plan)
                self.sound.add(key)
            self._estimates[picks] = priced(task, plan)
        return self._estimates[picks]

    def price(self, plan: Plan) -> Estimate:
        """The cost of any plan as a whole program, or as its draft. MpccError where it cannot be made."""
        return priced(replace(self.task, program=self.task.draft_program), plan)

    def work(self, picks: Picks) -> Work:
        """Rounds, bytes and local seconds of the whole program."""
        return work_of(self.estimate(picks), self.speed)

    # -- quality --

    def walker(self) -> Walker | None:
        """What runs picks on the inputs that measure; None where there was no time to measure any."""
        if not self.measurements.sensitivity_measured:
            return None
        task, measured = self.task, self.measurements.sensitivity
        candidates = {site: entry.kept for site, entry in self.space.candidates.items()}
        columns, count = measured.columns, len(measured.columns[0])
        if task.mends:
            columns, count = tuple(column[: min(task.apart, 2 * count)] for column in task.columns), min(count, task.apart // 2)
        reference, metric = tuple(value[:count] for value in measured.reference), task.metric.on(slice(count))

        def measure(outputs: Outputs) -> tuple[float, float]:
            seen = tuple(value[:count] for value in outputs)
            return metric.loss(seen, reference), metric.drop(seen, reference)

        mender = Mender(task.graph, columns, count) if task.mends else None
        return Walker(task.graph, columns, candidates, self.space.parts, measure, not task.calibrated, mender)

    def examined(self, picks: Picks) -> Estimate:
        """What the picks cost. RangeError where no program can be made, or where inputs that may come give NaN or infinities."""
        measured = self.measurements.sensitivity
        self._check_finite(picks, measured, "calibration inputs")
        if self.task.calibrated:  # inputs that were made from the model reach as far as inputs can
            larger = replace(measured, columns=self.task.enlarged(len(measured.columns[0])))
            self._check_finite(picks, larger, f"inputs {STRETCH:g} times as large, within their range,")
        return self.estimate(picks)

    def _check_finite(self, picks: Picks, inputs: Sensitivity, what: str) -> None:
        if not all(torch.isfinite(values).all() for values in inputs.joint(self.choices(picks))):
            calls = list(zip(*inputs.columns, strict=True))
            raise Runaway(f"{what} give NaN or infinite values", causes(self.task.graph, self.choices(picks), self.known, calls))

    # -- answers --

    def point(self, picks: Picks, predicted: float) -> Point:
        """Picks as a plan, with what its program really costs. RangeError where that cannot be made."""
        plan, estimate = self.settled(picks)
        return self.judged(Point(plan, estimate, math.nan, math.nan, predicted))

    def judged(self, point: Point) -> Point:
        """The point with the loss and the drop that the judge sees."""
        loss, drop = self.judge(point.plan)
        return replace(point, loss=loss, drop=drop)
