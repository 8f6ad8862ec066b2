"""Picks tried out: made a plan, priced as a whole program, run with all choices in place. Each of these once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mpcc import registry
from mpcc.approximate import Choice, Plan, SiteStatistics, Split
from mpcc.approximate.logit_margin import STRETCH
from mpcc.calibration.ranges import Inputs
from mpcc.calibration.sequential_fit import fit_sequentially
from mpcc.cost import Estimate, Work
from mpcc.errors import RangeError

from .candidates import refitted
from .judge import Judge
from .measurements import Measurements
from .pricing import made, priced, seconds_of, work_of
from .problem import Picks
from .repair import Tools, Trial
from .runaway import Runaway, causes
from .sensitivity import Sensitivity
from .space import Space
from .task import Chosen, Point, Task


class Trials:
    """What the search may ask of picks. It remembers answers, and no answer depends on what was asked before."""

    def __init__(self, task: Task, measurements: Measurements, space: Space, judge: Judge, sound: set[str] | None = None) -> None:
        """`sound`: plans of which a program is known to exist, under whatever protocol."""
        self.task, self.measurements, self.space, self.judge = task, measurements, space, judge
        self.known = registry.approximations()
        self.speed = seconds_of(task.protocol, task.network)
        self.tools = Tools(self.work, self.loss, self.without)
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
        """The exact cost of any plan as a whole program. MpccError where it cannot be made."""
        return priced(self.task, plan)

    def work(self, picks: Picks) -> Work:
        """Rounds, bytes and local seconds of the whole program."""
        return work_of(self.estimate(picks), self.speed)

    def seconds(self, trial: Trial) -> float:
        """Exact seconds online."""
        return float(self.estimate(trial.picks).seconds)

    # -- quality --

    def loss(self, picks: Picks) -> float:
        """The loss of the joint choice. RangeError where inputs a quarter larger, which may come, give NaN or infinities."""
        measured = self.measurements.sensitivity
        if self.task.calibrated:
            self._check_finite(picks, replace(measured, columns=tuple(_stretched(column) for column in measured.columns)))
        else:  # inputs that were made from the model reach as far as inputs can
            self._check_finite(picks, measured)
        return self.task.metric.loss(measured.joint(self.choices(picks)), measured.reference)

    def _check_finite(self, picks: Picks, inputs: Sensitivity) -> None:
        if not all(torch.isfinite(values).all() for values in inputs.joint(self.choices(picks))):
            times = f"inputs {STRETCH:g} times as large as those of calibration" if self.task.calibrated else "synthetic inputs"
            calls = list(zip(*inputs.columns, strict=True))
            raise Runaway(f"{times} give NaN or infinite values", causes(self.task.graph, self.choices(picks), self.known, calls))

    def without(self, picks: Picks) -> Mapping[str, float]:
        """Site -> the loss of the joint choice with that site exact; empty where measuring it would take too long."""
        if not self.measurements.sites_exactly_attributed:
            return {}
        return self.measurements.sensitivity.without(self.choices(picks))

    def drop(self, picks: Picks) -> float:
        """The accuracy drop of the joint choice, as the judge sees it; infinite where values leave what later sites can take."""
        try:
            return self.judge(self.plan(picks))[1]
        except RangeError:
            return float("inf")

    # -- answers --

    def point(self, trial: Trial) -> Point:
        """A trial with what its program really costs. RangeError where that cannot be made."""
        plan, estimate = self.settled(trial.picks)
        return Point(plan, estimate, trial.loss, self.judge(plan)[1], trial.predicted)

    def chosen(self, point: Point, tried: int) -> Chosen:
        """A point as an answer, with what it was chosen from."""
        images = len(self.measurements.sensitivity.columns[0])
        return Chosen(point, self.space.candidates, self.task.metric, images, self.judge.images, tried)


def _stretched(column: Tensor) -> Tensor:
    return column * STRETCH if column.is_floating_point() else column
