"""What `optimize` makes, and how a plan that was settled on becomes it: compensated, compared in fixed point, noted."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from mpcc import registry, security
from mpcc.approximate import Plan
from mpcc.calibration.basis import ENOUGH, Basis
from mpcc.calibration.labels import load_labels
from mpcc.calibration.range_check import RangeViolation, range_report
from mpcc.compensate import Report
from mpcc.cost import Budget, Estimate
from mpcc.errors import OutsideRange, ThinNoise, UsageError
from mpcc.ir.answers import NOTE as ANSWERS
from mpcc.lowering import Settings
from mpcc.lowering.circuits import Made
from mpcc.program import Program
from mpcc.rewrite import Observer, Step
from mpcc.runtime.engine.fidelity import compare
from mpcc.runtime.executable import Executable
from mpcc.search.growth import Growth, Terms
from mpcc.search.metrics import CLASSES, metric_of, with_labels
from mpcc.search.pricing import Priced, made, stock_estimate
from mpcc.search.target import Objective, Target, asked
from mpcc.search.task import Chosen, Task
from mpcc.security import Trust

from . import compensation
from .compensation import Repaired, repaired
from .steps import Prepared, Progress, circuit_for, mpc_graph, task_of

if TYPE_CHECKING:
    from mpcc.show.notebook import Picture


@dataclass(frozen=True)
class Optimized:
    """What `optimize` made. `errors` compares the fixed-point emulation with the float model on the calibration inputs."""

    module: fx.GraphModule
    plan: Plan
    estimate: Estimate
    baseline: Estimate
    program: Program
    model: fx.GraphModule
    errors: Mapping[str, float]
    basis: Basis
    chosen: Chosen | None = None
    prefix: fx.GraphModule | None = None  # what the client computes alone; `program` and `model` begin behind it
    public: tuple[str, ...] = ()  # the names of the parameters that everybody may know
    ranges: tuple[RangeViolation, ...] = ()  # what each site sees of these inputs, against where its choice holds
    compensation: Report | None = None  # None where there was nothing to compensate, or it was not asked for
    circuit: Made | None = None  # what another engine runs, where the protocol has one
    settings: Settings = Settings()  # the fixed point that was asked for
    terms: Terms | None = None  # what costs at other sizes are predicted by

    @property
    def calibrated(self) -> bool:
        """Whether figures rest on inputs of the user's, and not only on ones that were made from the model."""
        return self.basis.calibrated

    @property
    def answers(self) -> tuple[str, ...]:
        """The functions that the client computes of the opened outputs."""
        found = self.executable().answers
        return () if found is None else found.names

    @property
    def hidden(self) -> int | None:
        """In how many answers noise hides roundings (`Program.hidden`); None where another engine runs it, which adds none."""
        return self.program.hidden if self.circuit is None else None

    @property
    def shortfall(self) -> str:
        """Why the noise hides roundings in fewer answers than were asked for (`Settings.answers`), and what to do; mostly ""."""
        return security.fewer(self.hidden, self.settings.answers, self.settings.flood)

    @property
    def trust(self) -> Trust | None:
        """What the security statement says of the protocol, where another engine runs it."""
        return None if self.circuit is None else registry.protocol(self.circuit.circuit.protocol).trust

    def __repr__(self) -> str:
        from mpcc.show.notebook import text

        return f"<Optimized: {text(self.plan, self.baseline, self.estimate)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: a row for each kind of operator, before and after."""
        from mpcc.show.notebook import table

        return table(self.plan, self.baseline, self.estimate)

    def plot(self) -> Picture:
        """Bytes and rounds of each kind of operator, before and after: a notebook shows it, `.save("x.svg")` writes it."""
        from mpcc.show.notebook import picture

        return picture(self.plan, self.baseline, self.estimate)

    @cached_property
    def growth(self) -> Growth:
        """What an inference takes with more or fewer tokens, all else equal. UsageError where that is not known."""
        if self.terms is None:
            raise UsageError("what costs are predicted by is not known")
        return self.terms.growth(self.program)

    def executable(self) -> Executable:
        """What two parties run."""
        return Executable(self.program, self.plan, self.module, prefix=self.prefix, circuit=self.circuit)

    def save(self, folder: str | Path) -> Path:
        """Write a bundle: plan.json, model.onnx, program.json, weights.safetensors, report.html."""
        from mpcc.show.report import Comparison, former_plan

        repair, former = "" if self.compensation is None else str(self.compensation), former_plan(Path(folder))
        accurate = None if self.chosen is None else self.chosen.accurate
        growth: Growth | str
        try:
            growth = self.growth
        except UsageError as error:
            growth = error.what
        comparison = Comparison(
            self.baseline, self.estimate, self.errors, self.basis, self.ranges, repair, former,
            None if accurate is None else (accurate.plan, accurate.estimate), growth,
        )  # fmt: skip
        return self.executable().save(folder, comparison)


@dataclass(frozen=True)
class Asked:
    """What is asked for of a model, before anything is known of it."""

    target: Target
    objective: Objective
    compensate: bool | None
    reconstruct: int | None
    recipe: str | None
    progress: Progress | None
    observe: Observer | None

    @staticmethod
    def of(
        target: Target | None, objective: Objective | None, given: Mapping[str, Any], compensate: bool | None,
        reconstruct: int | None, recipe: str | None, progress: Progress | None, observe: Observer | None,
    ) -> Asked:  # fmt: skip
        """UsageError for what is no such thing, or does not go together."""
        compensation.check_asked(compensate, reconstruct)
        return Asked(
            *asked(target, objective, given), True if reconstruct else compensate, reconstruct, recipe, progress, observe
        )

    @property
    def budget(self) -> Budget | None:
        return None if self.objective.budget is None else Budget.parse(self.objective.budget)

    def on(self, prepared: Prepared, target: Target, start: Plan | None, labels: Any, calibration: Any) -> Question:
        """The same for a model; `target` names the machine, `labels` are those of the calibration inputs."""
        known = None if labels is None else labels_of(prepared, labels, calibration)
        return Question(replace(self, target=target), prepared, start, known)


def labels_of(prepared: Prepared, labels: Any, calibration: Any) -> Tensor:
    """[calls, batch]: what the user says of the calibration inputs. UsageError where these are few, or there is no classifier."""
    basis, result = prepared.basis, next(node for node in prepared.graph.graph.nodes if node.op == "output").args[0]
    if metric_of(prepared.graph) is not CLASSES:
        raise UsageError("labels need a classifier", where="labels", hint="Its output is one tensor [batch, classes].")
    if basis.synthetic:
        raise UsageError(f"labels need {ENOUGH} inputs of your own", where="labels", hint="Give more, or no labels.")
    found: Any = result[0] if isinstance(result, (tuple, list)) else result
    return load_labels(labels, calibration, basis.given, *found.meta["val"].shape)


@dataclass(frozen=True)
class Question:
    """What is asked for, of which model. `start`: a plan that every answer is held against; `labels`: [calls,
    batch], of the calibration inputs."""

    asked: Asked
    prepared: Prepared
    start: Plan | None = None
    labels: Tensor | None = None

    @cached_property
    def task(self) -> Task:
        """Plans are compared as they are once compensated, if that will be done."""
        asked = self.asked
        will = asked.compensate is not False and compensation.possible(self.prepared)
        task = task_of(self.prepared, asked.target, asked.objective, asked.progress)
        metric = task.metric if self.labels is None else with_labels(task.metric, self.labels)
        return replace(task, compensate=will, start=self.start, metric=metric)

    def finished(self, best: Priced, chosen: Chosen | None, budget: Budget | None, given: bool | None = None) -> Optimized:
        """A plan that was settled on. `chosen`: what a search found; `given`: None if no plan was, else whether by the user."""
        prepared, task, asked = self.prepared, self.task, self.asked
        baseline = stock_estimate(prepared.whole, task.protocol, task.network)
        fixed = self._repaired(best, budget, given is True)
        prepared, best = fixed.prepared, fixed.priced
        if asked.observe is not None:  # the search made many graphs; this is the chosen one, step by step
            mpc_graph(prepared.graph, best.plan, asked.observe)
            asked.observe(Step("online", "lower", best.program.online.graph))
            asked.observe(Step("dealer", "lower", best.program.dealer.graph))
        task.progress("emulate", 0, 1)
        errors = compare(prepared.source, best.program, prepared.inputs)
        ranges = tuple(range_report(prepared.graph, best.plan, registry.approximations(), prepared.inputs))
        for one in (found for found in ranges if found.values > 0):
            warnings.warn(str(one), OutsideRange, stacklevel=3)
        task.progress("emulate", 1, 1)
        made_by = "search" if chosen is not None else "default" if given is None else "plan" if given else "recipe"
        notes = {**task.notes, "seconds": float(best.estimate.seconds), "calibration": prepared.basis.document()}
        notes |= {"made_by": made_by}
        notes |= {"public": list(prepared.public)} if prepared.public else {}
        notes |= {} if prepared.answers is None else {ANSWERS: prepared.answers.document()}
        notes |= {} if asked.recipe is None else {"recipe": asked.recipe}
        notes |= {} if fixed.report is None else {compensation.NOTE: fixed.report.note}
        result = Optimized(
            prepared.graph, replace(best.plan, notes=notes), best.estimate, baseline, best.program, prepared.source, errors,
            prepared.basis, chosen, prepared.prefix, prepared.public, ranges, fixed.report,
            circuit_for(prepared, best.plan, task.protocol), task.settings,
            Terms(prepared.whole, task.protocol, task.network, task.compute),
        )  # fmt: skip
        if result.shortfall and task.settings.answers != Settings().answers:
            warnings.warn(result.shortfall, ThinNoise, stacklevel=3)
        return result

    def _repaired(self, best: Priced, budget: Budget | None, given: bool) -> Repaired:
        """Compensated, where that is wanted."""
        asked, task = self.asked, self.task
        if not compensation.wanted(best.plan, asked.compensate, given=given):
            return Repaired(self.prepared, best)
        task.progress("compensate", 0, 1)
        found = repaired(
            self.prepared, best, task.metric, budget, self._made,
            asked=asked.compensate is True or compensation.was_compensated(best.plan),
            steps=compensation.steps_of(best.plan) if asked.reconstruct is None else asked.reconstruct, progress=asked.progress,
        )  # fmt: skip
        task.progress("compensate", 1, 1)
        return found

    def _made(self, prepared: Prepared, plan: Plan) -> Priced:
        return made(task_of(prepared, self.asked.target, self.asked.objective, self.asked.progress), plan)
