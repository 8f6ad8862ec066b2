"""Search with training, then distil: capture -> mixtures -> train under the budget -> pick -> train on -> fit -> program.

    made = tune(graph, load_data("digits", shape, seed=0), Wanted(method("mpcc"), Budget.parse("2s")), recipe, checkpoint)
    made.optimized.save("private.mpcc")

The original model is the teacher throughout, and what the tuned one starts from.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

from mpcc import pipeline, registry
from mpcc.approximate import Plan
from mpcc.calibration import range_report
from mpcc.cost import Budget, Estimate, Network
from mpcc.errors import BudgetError, MpccError, RangeError, UsageError
from mpcc.ir.nn import attribute, inputs_of, sites
from mpcc.pipeline import Optimized, Prepared
from mpcc.runtime.engine.fidelity import compare
from mpcc.search import layouts
from mpcc.search.pricing import fastest, priced, reached, stock_estimate
from mpcc.search.target import Objective, Target
from mpcc.search.task import Task

from . import (  # fmt: skip
    NONE,
    Checkpoint,
    Data,
    Distillation,
    Gate,
    Granularity,
    Group,
    Method,
    Mixture,
    Picked,
    Picks,
    Prices,
    Recipe,
    Row,
    Snapshot,
    Stage,
    Trainer,
    accuracy,
    by_milp,
    by_ratio,
    fitted_plan,
    gate,
    measured,
    provisional_plan,
    replaced,
    taps,
    untrained,
    weights_of,
)

CALIBRATION_IMAGES = 256
RESERVE = 0.98
"""Share of the budget that the search may use: what is fitted after training can be a little dearer than before it."""
SLACK = 0.02
"""Share of the budget that may be left over."""
TRIES = 8


@dataclass(frozen=True)
class Wanted:
    """What is asked for. `mu`: MPCViT's share; `granularity` instead of the method's own; no `distil`: labels only."""

    method: Method
    budget: Budget | None = None
    protocol: str = "mpcc"
    network: Network = field(default_factory=lambda: Network.parse("lan"))
    mu: float | None = None
    granularity: Granularity | None = None
    distil: bool = True
    attention_maps: bool = False
    search_epochs: int = 5
    machine: str | None = None

    @property
    def target(self) -> Target:
        """What the program is made for."""
        return Target(self.protocol, self.network, self.machine)

    @property
    def distillation(self) -> Distillation:
        if not self.distil:
            return NONE
        how = self.method.distillation
        return replace(how, attention_weight=1.0) if self.attention_maps else how

    def check(self) -> None:
        """UsageError where options and method do not fit."""
        how = self.method.choose
        if how == "programme" and self.budget is None:
            raise UsageError(f"--method {self.method.name} chooses under a budget", hint="Give one: --budget 2s")
        if how == "ratio" and self.mu is None:
            raise UsageError(f"--method {self.method.name} needs its ratio", hint="Give one between 0 and 1: --mu 0.5")
        if how != "ratio" and self.mu is not None:
            raise UsageError(f"--mu means nothing to --method {self.method.name}", hint="It is mpcvit's and mpcvit+'s.")
        if self.mu is not None and not 0 <= self.mu <= 1:
            raise UsageError(f"--mu {self.mu:g} is not between 0 and 1")


@dataclass(frozen=True)
class Tuned:
    """`optimized` is what a bundle is made of. Shares of right answers, on `test_images` that nothing else looked at."""

    optimized: Optimized
    rows: tuple[Row, ...]
    picks: Mapping[str, tuple[str, ...]]
    accuracy: float
    original_accuracy: float
    validation_accuracy: float
    test_images: int

    @property
    def standard_error(self) -> float:
        """Binomial, of `accuracy`."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.test_images)


Tell = Callable[[str, int, int], None]


class Tuning:
    """One training: `run` does all of it, from the checkpoint where there is one."""

    def __init__(
        self, model: fx.GraphModule, data: Data, wanted: Wanted, recipe: Recipe, checkpoint: Callable[[str], Checkpoint],
        *, group: Group | None = None, report: Callable[[Row], None] = lambda row: None,
        tell: Tell = lambda stage, done, total: None,
    ) -> None:  # fmt: skip
        wanted.check()
        self.data, self.wanted, self.recipe, self.group = data, wanted, recipe, group or Group()
        self.report, self.tell = report, tell
        self.known, self.protocol = registry.approximations(), registry.protocol(wanted.protocol)
        (self.static, *_) = _only_input(model)
        self.inputs = data.training.images[: CALIBRATION_IMAGES // self.static * self.static]
        _check_sizes(data, recipe, self.group)
        self.prepared = pipeline.prepare(model, calibration=self.inputs, progress=tell)
        self.base = self.prepared.graph
        self.gates = self._gates()
        self.checkpoint = checkpoint(self._identity())

    # -- the steps --

    def run(self) -> Tuned:
        """Search, pick, train on, fit."""
        how = taps(self.base, self.wanted.distillation)
        teacher = replaced(self.base, {}, how.nodes).requires_grad_(False)
        snapshot = self.checkpoint.read()
        picks, weights, rows, snapshot = self._picked(teacher, snapshot)
        modules = {gate.site: Picked(gate, picks[gate.site], self.known) for gate in self.gates}
        student = replaced(self.base, modules, how.nodes)
        _load(student, weights)
        epochs = self.recipe.epochs + (0 if self._searches else self.wanted.search_epochs)
        stage = Stage("train", student, teacher, self.wanted.distillation, how)
        kept = {"picks": {site: list(chosen) for site, chosen in picks.items()}, "before": [asdict(row) for row in rows]}
        trainer = self._trainer(stage, replace(self.recipe, epochs=epochs), kept)
        trainer.run(snapshot)
        _load(student, trainer.best)
        return self._finished(student, teacher, picks, (*rows, *trainer.rows), trainer.top)

    def _picked(
        self, teacher: fx.GraphModule, snapshot: Snapshot | None
    ) -> tuple[Picks, dict[str, Tensor], list[Row], Snapshot | None]:
        """Picks, the weights to go on from, the rows so far, and what is left of the snapshot."""
        if snapshot is not None and "picks" in snapshot.state:
            picks = {site: tuple(chosen) for site, chosen in snapshot.state["picks"].items()}
            return picks, {}, [Row(**row) for row in snapshot.state["before"]], snapshot
        if not self._searches:
            return {gate.site: (0,) * gate.positions for gate in self.gates}, {}, [], snapshot
        prices = self._prices()
        mixtures = {gate.site: Mixture(gate, self.known, paired=self.wanted.method.choose == "ratio") for gate in self.gates}
        student = replaced(self.base, dict(mixtures))
        budget = None if self.wanted.budget is None else self.wanted.budget.amount * RESERVE
        stage = Stage(
            "search", student, teacher, NONE, taps(self.base, NONE), mixtures, prices.predicted,
            budget if self.wanted.method.choose == "programme" else None, self.wanted.method.penalty,
        )  # fmt: skip
        trainer = self._trainer(stage, replace(self.recipe, epochs=self.wanted.search_epochs), {})
        trainer.run(snapshot)
        weights = {site: mixture.weights().detach() for site, mixture in mixtures.items()}
        trained = {name: p.detach().clone() for name, p in weights_of(student).items()}
        picks = self._choose(weights, prices, student)
        return picks, trained, trainer.rows, None

    def _trainer(self, stage: Stage, recipe: Recipe, kept: Mapping[str, Any]) -> Trainer:
        return Trainer(stage, self.data, recipe, self.static, self.group, self.checkpoint, kept, self.report, self.tell)

    @property
    def _searches(self) -> bool:
        return self.wanted.method.choose != "fixed"

    # -- gates and their prices --

    def _gates(self) -> list[Gate]:
        method, found = self.wanted.method, []
        for site, node in sites(self.base).items():
            operator = self.prepared.statistics[site].site.operator
            names = method.candidates.get(operator, ())
            candidates = [untrained(self.prepared.statistics[site], name, self.known) for name in names]
            usable = [c for c in candidates if c is not None]
            if names and (not usable or (method.choose != "programme" and len(usable) < len(names))):
                raise UsageError(f"{', '.join(names)}: not all of them apply here", where=f"site {site}")
            if names:
                how = self.wanted.granularity or method.granularity.get(operator, "layer")
                found.append(gate(node, "layer" if operator == "layer_norm" else how, usable))
        if not found and method.candidates:
            raise UsageError(f"the model has nothing that --method {method.name} replaces: there is nothing to tune")
        return found

    def _prices(self) -> Prices:
        unit = self.wanted.budget or Budget.parse("1s")
        latency = self.protocol.rtt_per_round * self.wanted.network.rtt_seconds
        found = measured(self.gates, self._estimate, unit, latency)
        least = {
            gate.site: (min(range(len(gate.candidates)), key=lambda k: found.picked({**self._firsts(), gate.site: (k,)})),)
            for gate in self.gates
        }
        if self.wanted.budget is not None and self.wanted.method.choose == "programme":
            self._refuse_what_cannot_be_met(self.wanted.budget, {site: k for site, (k,) in least.items()})
        return found

    def _refuse_what_cannot_be_met(self, budget: Budget, least: Mapping[str, int]) -> None:
        """BudgetError where even the cheapest choice is above the budget, if it can be made before it is trained."""
        try:
            cost = self._estimate(least)
        except RangeError:
            return
        if budget.spent(cost) > budget.amount * RESERVE:
            raise BudgetError(
                f"the budget of {budget} cannot be met by --method {self.wanted.method.name}",
                hint=f"The cheapest it can reach: {reached(cost)}",
            )

    def _firsts(self) -> dict[str, tuple[int, ...]]:
        return {gate.site: (0,) for gate in self.gates}

    def _estimate(self, chosen: Mapping[str, int]) -> Estimate:
        """The cost before training, with whole sites at the named candidates and the others at their first."""
        picks = {gate.site: (chosen.get(gate.site, 0),) * gate.positions for gate in self.gates}
        return self.provisional(picks)

    def provisional(self, picks: Picks, weights: fx.GraphModule | None = None) -> Estimate:
        """The cost of picks that are not trained yet, with the original weights or others. RangeError where values leave
        all proportion."""
        graph = weights or self.base
        plan = provisional_plan(graph, self.inputs, self.gates, picks, self.known)
        # How precise the program is tells nothing yet: training goes on.
        return priced(self._task(replace(self.prepared, graph=graph), self.wanted.target.unchecked), plan)

    def _fitted(self, trained: fx.GraphModule, picks: Picks) -> tuple[Prepared, Plan]:
        """The plan of the picks for these weights."""
        picked = replaced(trained, {gate.site: Picked(gate, picks[gate.site], self.known) for gate in self.gates})
        plan = fitted_plan(trained, picked, self.inputs, self.gates, picks, self.known)
        return replace(self.prepared, graph=trained), plan

    def _task(self, prepared: Prepared, target: Target | None = None) -> Task:
        """What `pricing` takes: the weights of `prepared` for the protocol and the network that are wanted."""
        return pipeline.task_of(prepared, target or self.wanted.target, Objective("structural"))

    # -- from scores to picks --

    def _choose(self, weights: Mapping[str, Tensor], prices: Prices, student: fx.GraphModule) -> Picks:
        if self.wanted.method.choose == "ratio":
            assert self.wanted.mu is not None
            return by_ratio(self.gates, weights, self.wanted.mu)
        assert self.wanted.budget is not None
        budget, most = self.wanted.budget, self.wanted.budget.amount * RESERVE
        fitting: list[tuple[float, Picks]] = []
        seen = set[tuple[tuple[int, ...], ...]]()
        for _ in range(TRIES):  # prices of sites do not add up to a program's: what is asked of them follows what it takes
            picks = by_milp(self.gates, weights, prices, most)
            if picks is None or tuple(picks.values()) in seen:
                break
            seen.add(tuple(picks.values()))
            over = self._over(picks, student, budget)
            if over <= 0:
                fitting.append((most, picks))
            if -SLACK * budget.amount < over <= 0:
                break
            most -= over * 1.001
        if not fitting:
            raise BudgetError(f"no choice meets the budget of {budget} once it is made", hint="Give a larger --budget.")
        return max(fitting, key=lambda one: one[0])[1]

    def _over(self, picks: Picks, student: fx.GraphModule, budget: Budget) -> float:
        """By how much the exact program of the picks is above the reserve; 0 where the weights, which are not trained for
        these picks yet, are beyond what can be fitted: then the prediction has to do, and the end decides."""
        try:
            return budget.spent(self.provisional(picks, self._with(student))) - budget.amount * RESERVE
        except MpccError:
            return 0.0

    def _with(self, student: fx.GraphModule) -> fx.GraphModule:
        """The rewritten graph with the student's weights."""
        trained = copy.deepcopy(self.base)
        _load(trained, weights_of(student))
        return trained

    # -- the end --

    def _finished(
        self, student: fx.GraphModule, teacher: fx.GraphModule, picks: Picks, rows: tuple[Row, ...], top: float
    ) -> Tuned:
        prepared, plan = self._fitted(self._with(student), picks)
        best = fastest([Plan(one.choices, self._notes()) for one in layouts(plan, self.known)], self._task(prepared))
        estimate = best.estimate
        budget = self.wanted.budget
        if budget is not None and not budget.met_by(estimate):
            raise BudgetError(
                f"the trained model does not meet the budget of {budget}",
                hint=f"It takes {reached(estimate)}. Give a larger --budget"
                + (", or a smaller --mu." if self.wanted.mu else "."),
            )
        baseline = stock_estimate(self.prepared.source, self.protocol, self.wanted.network)
        errors = compare(student, best.program, self.inputs)
        optimized = Optimized(
            prepared.graph, best.plan, estimate, baseline, best.program, self.prepared.source, errors, True,
            ranges=tuple(range_report(prepared.graph, best.plan, self.known, prepared.inputs)),
        )  # fmt: skip
        names = {g.site: tuple(g.candidates[k].name for k in picks[g.site]) for g in self.gates}
        test, static = self.data.test, self.static
        return Tuned(
            optimized, rows, names, accuracy(student, test, static), accuracy(teacher, test, static), top, len(test)
        )

    def _notes(self) -> dict[str, Any]:
        wanted = self.wanted
        return {
            "made_by": "tune", "method": wanted.method.name, "protocol": self.protocol.name, "network": wanted.network.name,
            "machine": pipeline.compute_of(wanted.target).note, "level": "structural", "calibrated": True,
        }  # fmt: skip

    def _identity(self) -> str:
        """What changes the result: the model, the data and every setting."""
        digest = hashlib.sha256()
        for node in self.base.graph.nodes:
            digest.update(f"{node.name} {node.target} {node.args}".encode())
            if node.op == "get_attr":
                digest.update(attribute(self.base, str(node.target)).detach().contiguous().numpy().tobytes())
        for part in (self.data.training, self.data.validation):
            digest.update(part.labels.numpy().tobytes())
            digest.update(part.images[:16].contiguous().numpy().tobytes())
        wanted = {**asdict(self.wanted), "method": self.wanted.method.name}
        settings = {k: v for k, v in asdict(self.recipe).items() if k != "patience"}
        machine = pipeline.compute_of(self.wanted.target).note
        digest.update(json.dumps([wanted, machine, settings, self.group.size], default=str, sort_keys=True).encode())
        return digest.hexdigest()


def _load(module: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    own = dict(module.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            if name in own:
                own[name].copy_(value)


def _shapes(graph_module: fx.GraphModule) -> list[tuple[int, ...]]:
    return [tuple(node.meta["val"].shape) for node in inputs_of(graph_module)]


def _only_input(model: fx.GraphModule) -> tuple[int, ...]:
    shapes = _shapes(model)
    if len(shapes) != 1 or not shapes[0]:
        raise UsageError(f"a model of {len(shapes)} inputs cannot be tuned: it must take images alone")
    return shapes[0]


def _check_sizes(data: Data, recipe: Recipe, group: Group) -> None:
    if recipe.batch % group.size:
        raise UsageError(f"a batch of {recipe.batch} cannot be shared out among {group.size} processes", where="--batch")
    if len(data.training) < recipe.batch:
        raise UsageError(f"{len(data.training)} training images are less than one batch of {recipe.batch}", where="--batch")


__all__ = ["Tuned", "Tuning", "Wanted"]
