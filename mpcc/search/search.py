"""The choice under a budget: gives the search a protocol's prices and whole programs, and makes its picks a plan.

candidates (priced, how wrong) -> sensitivity (what that does to the outputs) -> solver -> whole program, joint damage
-> corrected problem -> solver again ...
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, fx

from mpcc import registry
from mpcc.approximate import LEVELS, Choice, Plan, SiteStatistics, Split
from mpcc.approximate.logit_margin import STRETCH
from mpcc.calibration.ranges import Inputs, record_ranges, stack_calls
from mpcc.calibration.sequential_fit import fit_sequentially
from mpcc.cost import Budget, Estimate, Network, Protocol, Work, estimate_graph
from mpcc.errors import BudgetError, MpccError, RangeError
from mpcc.lowering import lower

from .candidates import Candidate, Candidates, candidates, measured, refitted
from .neighbourhood import edges
from .parts import WHOLE, Parts, alone, parted, slots_of, structural, with_shares
from .prices import Calls, Prices
from .pricing import made, priced, reached
from .problem import Limit, Picks, Problem, Slot, Weights
from .program_cost import program_estimate, sizeless_seconds
from .recipes import recipe_plan
from .repair import DAMAGE, MOST_TRIALS, Tools, Trial, attempt, banned, cheapest, least_damage, most_exact, picked
from .replay import Replay
from .runaway import Runaway, causes
from .sensitivity import FEWEST_CALLS, MOST_CALLS, Sensitivity, affordable, affordable_calls, batches
from .task import Chosen, Measurements, Point, Task

PLACE_BITS = 12
"""Fraction bits of what enters a neighbourhood: products stand before it in the whole program, which leave about as many."""
PLACE_ELEMENTS = 1 << 25
"""Values of the calls from which ranges of neighbourhoods and errors at sites are taken."""
MOST_JUDGED, JUDGEMENTS = 512, 40
"""At most so many inputs judge what the search chooses, and fewer where so many runs of the whole graph would take long."""
BISECTIONS, MOST_SETTLED = 12, 16
MOST_BLIND, BLIND_AIM = 3, 0.98
"""Trials where damages were not measured: the first that keeps the budget is the answer, so they aim a little below it."""


class Search:
    """One task: candidates and damages are worked out once, then any budget or loss may be asked for."""

    def __init__(self, task: Task, weighed: Search | None = None) -> None:
        """`weighed`: a search of the same model whose candidates and damages serve here too."""
        self.task = task
        self.known = registry.approximations()
        self.seconds = seconds_of(task.protocol, task.network)
        self.columns: tuple[Tensor, ...] = stack_calls(task.graph, task.inputs)
        self.estimates: dict[Picks, Estimate] = {}
        self.plans: dict[Picks, Plan] = {}
        few = Replay(task.graph, batches(task.graph, tuple(column[:MOST_CALLS] for column in self.columns), PLACE_ELEMENTS)[0])
        prices = Prices(task.graph, few, self.known, self._measure, task.protocol.concurrent)
        self.weighed: Measurements = self._weigh(few, prices) if weighed is None else weighed.weighed
        self.sensitivity = self.weighed.sensitivity
        self.problem = self._problem(prices)
        self.tools = Tools(self._work, self._damage, self._without)
        self.exact, self.problem = most_exact(self.problem, self.seconds, self.tools)
        self.problem = self.problem.corrected_to(self.exact.picks, self.exact.work)

    def under(self, protocol: Protocol, network: Network) -> Search:
        """The same search for another protocol or network: only prices are worked out anew. A network changes no work."""
        if protocol == self.task.protocol:
            here = copy.copy(self)
            here.task, here.seconds = replace(self.task, network=network), seconds_of(protocol, network)
            here.estimates, here.tools = {}, Tools(here._work, here._damage, here._without)
            return here
        return Search(replace(self.task, protocol=protocol, network=network), self)

    # -- what there is to choose from --

    def _weigh(self, few: Replay, prices: Prices) -> Measurements:
        task = self.task
        found = candidates(
            task.graph, task.statistics, self.known, task.level, few, prices, lambda d, t: task.progress("candidates", d, t)
        )
        parts = parted(task.graph, found, self.known, few) if task.calibrated else dict.fromkeys(found, WHOLE)
        cut = alone(found, parts, self.known)
        rows = {site: [*(m.choice for m in entry.members), *cut.get(site, ())] for site, entry in found.items()}
        scarce = affordable(task.graph, rows) < FEWEST_CALLS
        if scarce:
            rows = {site: row[: len(found[site].members)] for site, row in rows.items()}
        calls = affordable_calls(task.graph, rows, task.calibrated)
        sensitivity = self._on(calls or 1)
        if not calls:
            errors = {site: [min(m.error, 1.0) ** 2 for m in entry.members] for site, entry in found.items()}
            return Measurements(found, errors, sensitivity, parts, swept=False)
        damages = sensitivity.sweep(rows, lambda d, t: task.progress("sensitivity", d, t))
        for site in cut:
            found[site] = with_shares(found[site], parts[site], damages[site][len(found[site].members) :], self.known)
        whole = {site: damages[site][: len(entry.members)] for site, entry in found.items()}
        return Measurements(found, whole, sensitivity, parts, scarce=scarce)

    def _problem(self, prices: Prices) -> Problem:
        self.candidates: dict[str, Candidates] = {}
        self.parts: dict[str, Parts] = {}
        slots: list[Slot] = []
        for done, (site, entry) in enumerate(self.weighed.found.items()):
            self.task.progress("price", done, len(self.weighed.found))
            left = self.candidates[site] = measured(entry, self.weighed.damages[site], prices)
            pays = structural(left, self.known) and len(left.members) > 1
            self.parts[site] = self.weighed.parts[site] if pays else WHOLE
            slots += slots_of(left, self.parts[site], prices)
        return Problem(tuple(slots), edges(self.task.graph), parallel=prices.parallel)

    def _on(self, calls: int) -> Sensitivity:
        columns = tuple(column[:calls] for column in self.columns)
        return Sensitivity.of(self.task.graph, columns, self.known, self.task.metric)

    @cached_property
    def judge(self) -> Sensitivity:
        """The calibration inputs on which drops are counted: as many as some dozens of runs allow."""
        runs = {"": [None] * JUDGEMENTS}
        return self._on(affordable_calls(self.task.graph, runs, True, min(MOST_JUDGED, len(self.columns[0]))))

    def _measure(self, graph: fx.GraphModule, calls: Calls) -> tuple[Work, float]:
        graph, protocol = self.task.passes(graph), self.task.protocol
        if not protocol.scheduled:
            return self._as_work(estimate_graph(graph, protocol, self.task.network)), 0.0
        record_ranges(graph, calls)
        program = lower(graph, replace(self.task.settings, input_bits=PLACE_BITS))
        work = self._as_work(program_estimate(program, protocol, self.task.network, self.task.compute))
        own = Work(work.rounds - 1, work.bytes, work.local_seconds)  # without the opening of its own outputs
        return own, sizeless_seconds(program, self.task.compute)

    def _as_work(self, estimate: Estimate) -> Work:
        spent = self.seconds.of(Work(estimate.rounds, estimate.bytes), 0.0)
        return Work(float(estimate.rounds), float(estimate.bytes), float(estimate.seconds) - spent)

    # -- what the loop asks --

    def members(self, picks: Picks) -> dict[str, list[Candidate]]:
        """Site -> the member that was picked for each of its parts."""
        rows, left = self.candidates.items(), iter(picks)
        return {site: [entry.members[next(left)] for _ in self.parts[site].groups] for site, entry in rows}

    def plan(self, picks: Picks) -> Plan:
        """The picks as a plan. Behind a structural choice every member is fitted to what its site sees then."""
        if picks not in self.plans:
            self.plans[picks] = self._fitted(picks, self.task.few)
        return self.plans[picks]

    def settled(self, picks: Picks) -> tuple[Plan, Estimate]:
        """The plan fitted to all inputs, and what its program costs. RangeError where that cannot be made."""
        if self.task.draft is self.task.program:
            return self.plan(picks), self.estimate(picks)
        plan = self.plan(picks) if self.task.few is self.task.inputs else self._fitted(picks, self.task.inputs)
        return plan, made(self.task, plan).estimate

    def _fitted(self, picks: Picks, inputs: Inputs) -> Plan:
        members, changed = self.members(picks), False
        levels = {site: {self.known[m.choice.approximation].level for m in row} for site, row in members.items()}
        if not any("structural" in found for found in levels.values()):
            return Plan({site: self.parts[site].entry([m.choice for m in row]) for site, row in members.items()})

        def choose(seen: SiteStatistics) -> Choice | Split:
            nonlocal changed
            row = members[seen.site.name]
            choices = [refitted(member, seen, self.known) if changed else member.choice for member in row]
            changed = changed or "structural" in levels[seen.site.name]
            return self.parts[seen.site.name].entry(choices)

        return fit_sequentially(self.task.graph, inputs, choose, self.known, not self.task.calibrated)

    def choices(self, picks: Picks) -> Mapping[str, Choice | Split]:
        return self.plan(picks).choices

    def estimate(self, picks: Picks) -> Estimate:
        """The cost of the whole program, or of its draft. RangeError where it cannot be made, whatever the protocol."""
        if picks not in self.estimates:
            plan, task = self.plan(picks), replace(self.task, program=self.task.draft)
            key = plan.key
            if not task.protocol.scheduled and key not in self.weighed.sound:
                task.program(plan)
                self.weighed.sound.add(key)
            self.estimates[picks] = priced(task, plan)
        return self.estimates[picks]

    def price(self, plan: Plan) -> Estimate:
        """The exact cost of any plan as a whole program. MpccError where it cannot be made."""
        return priced(self.task, plan)

    def recipe(self, name: str) -> Plan:
        """A published recipe's plan for the graph. MpccError where it cannot be made."""
        if name not in self.weighed.recipes:
            plan = recipe_plan(name, self.task.graph, self.task.inputs, self.known, synthetic=not self.task.calibrated)
            self.weighed.recipes[name] = plan
        return self.weighed.recipes[name]

    def _work(self, picks: Picks) -> Work:
        return self._as_work(self.estimate(picks))

    def _damage(self, picks: Picks) -> float:
        """The joint damage. RangeError where inputs that are a quarter larger give no numbers: such may come."""
        wider = replace(self.sensitivity, columns=tuple(_stretched(column) for column in self.sensitivity.columns))
        if not all(torch.isfinite(values).all() for values in wider.joint(self.choices(picks))):
            what = f"inputs {STRETCH:g} times as large as those of calibration give values that are no numbers"
            calls = list(zip(*wider.columns, strict=True))
            raise Runaway(what, causes(self.task.graph, self.choices(picks), self.known, calls))
        outputs = self.sensitivity.joint(self.choices(picks))
        return self.task.metric.damage(outputs, self.sensitivity.reference)

    def _without(self, picks: Picks) -> Mapping[str, float]:
        return self.sensitivity.without(self.choices(picks)) if self.weighed.swept and not self.weighed.scarce else {}

    def drop(self, picks: Picks) -> float:
        """What the joint choice drops, on the inputs of the judge."""
        return self.judged(self.plan(picks))[1]

    def judged(self, plan: Plan) -> tuple[float, float]:
        """(damage, drop) of a plan on the inputs of the judge."""
        key = plan.key
        if key not in self.weighed.judged:
            seen, metric = self.judge.joint(plan.choices), self.task.metric
            self.weighed.judged[key] = metric.damage(seen, self.judge.reference), metric.drop(seen, self.judge.reference)
        return self.weighed.judged[key]

    def point(self, trial: Trial) -> Point:
        """A trial with what its program really costs. RangeError where that cannot be made."""
        plan, estimate = self.settled(trial.picks)
        return Point(plan, estimate, trial.damage, self.judged(plan)[1], trial.predicted)

    def chosen(self, point: Point, tried: int) -> Chosen:
        images, judged = len(self.sensitivity.columns[0]), len(self.judge.columns[0])
        return Chosen(point, self.candidates, self.task.metric, images, judged, tried)

    # -- the three questions --

    def within(self, budget: Budget) -> Chosen | None:
        """The least damaging plan within a budget; None if there is none at this level."""
        self.task.progress("search", 0, 1)
        found = self._within(budget)
        self.task.progress("search", 1, 1)
        return found

    def _within(self, budget: Budget) -> Chosen | None:
        tight = budget
        for _ in range(MOST_SETTLED):
            met = self._meeting(tight)
            if not met:
                break
            trial = min(met, key=lambda t: (t.damage, self.measure(t)))
            try:
                point = self.point(trial)
            except RangeError as error:
                self.problem = banned(self.problem, trial.picks, error)
                continue
            if budget.met_by(point.estimate):
                return self.chosen(point, len(self.estimates))
            tight = replace(tight, amount=tight.amount * budget.amount / float(getattr(point.estimate, budget.unit)))
        return None

    def _meeting(self, budget: Budget) -> list[Trial]:
        """Trials within a budget, among them the best that is found."""
        aim = budget.amount if self.weighed.swept else BLIND_AIM * budget.amount
        limits = [Limit(weights_of(budget, self.seconds), aim)]
        found: list[Trial] = []
        problem = self.problem
        for at_once in (MOST_TRIALS,) if self.weighed.swept else (1,) * MOST_BLIND:
            more, problem = least_damage(problem, self.seconds, limits, self.tools, found, at_once)
            found += more
            met = [trial for trial in found if budget.met_by(self.estimate(trial.picks))]
            if met:
                return met
        fastest, self.problem = cheapest(problem, limits[0].weights, self.tools)
        if not budget.met_by(self.estimate(fastest.picks)):
            return []
        corrected_to = self.problem.corrected_to(fastest.picks, fastest.work)
        most = MOST_TRIALS if self.weighed.swept else MOST_BLIND
        more, _ = least_damage(corrected_to, self.seconds, limits, self.tools, [*found, fastest], most)
        return [t for t in [*more, fastest] if budget.met_by(self.estimate(t.picks))]

    def most(self, budget: Budget) -> Estimate:
        """The cheapest plan's cost, in the unit of a budget."""
        trial, self.problem = cheapest(self.problem, weights_of(budget, self.seconds), self.tools)
        return self.estimate(trial.picks)

    def losing(self, most: float) -> Chosen:
        """The fastest plan that drops no more than `most`: bisection on the damage that is allowed."""
        worst = sum(max(o.damage for o in slot.options if o.usable) for slot in self.problem.slots)
        low = max(self.problem.damage(self.exact.picks), 1e-12)
        high, best = max(worst, 2 * low), self.exact.picks if self.drop(self.exact.picks) <= most else None
        seen: dict[Picks, float] = {}
        for step in range(BISECTIONS):
            self.task.progress("search", step, BISECTIONS)
            allowed = high if step == 0 else (low * high) ** 0.5
            picks = picked(self.problem, self.seconds, [Limit(DAMAGE, allowed)], in_parts=False)
            if picks is not None and picks not in seen:
                seen[picks] = self._drop(picks)
            if picks is None or seen[picks] <= most:
                best, low = best if picks is None else picks, allowed
            else:
                high = allowed
            if best is not None and step == 0 and picks == best:
                break
        self.task.progress("search", BISECTIONS, BISECTIONS)
        if best is None:
            raise BudgetError(
                f"no plan of level {self.task.level} loses less than {most:.3g} ({self.task.metric.drop_name})",
                hint=f"The most exact one loses {self.drop(self.exact.picks):.3g} on {len(self.judge.columns[0])} inputs.",
            )
        trial = attempt(self.problem, best, self.tools)
        if isinstance(trial, Problem):  # a choice that cannot be scheduled: without it
            self.problem = trial
            return self.losing(most)
        finer = picked(self.problem, self.seconds, [Limit(DAMAGE, low)], in_parts=True)
        if finer is not None and finer not in seen and self._drop(finer) <= most:
            other = attempt(self.problem, finer, self.tools)
            trial = min((t for t in (trial, other) if isinstance(t, Trial)), key=self.measure)
        try:
            return self.chosen(self.point(trial), len(seen))
        except RangeError as error:
            self.problem = banned(self.problem, trial.picks, error)
            return self.losing(most)

    def _drop(self, picks: Picks) -> float:
        """The drop; infinite where values leave what the members behind can take."""
        try:
            return self.drop(picks)
        except RangeError:
            return float("inf")

    def measure(self, trial: Trial) -> float:
        """Exact seconds."""
        return float(self.estimate(trial.picks).seconds)


def _stretched(column: Tensor) -> Tensor:
    return column * STRETCH if column.is_floating_point() else column


def seconds_of(protocol: Protocol, network: Network) -> Weights:
    """Online seconds as a linear measure of rounds, bytes and local work."""
    return Weights(protocol.rtt_per_round * network.rtt_seconds, protocol.link_share / network.bandwidth, 1.0)


def weights_of(budget: Budget, seconds: Weights) -> Weights:
    """What a budget bounds, as a linear measure."""
    return {"seconds": seconds, "bytes": Weights(bytes=1.0), "rounds": Weights(rounds=1.0)}[budget.unit]


def searched(task: Task, budget: Budget | None, max_drop: float | None) -> Chosen:
    """The search's answer; BudgetError with what can be met at each level."""
    search = Search(task)
    if budget is None:
        assert max_drop is not None
        return search.losing(max_drop)
    found = search.within(budget)
    if found is None:
        levels = [f"--level {task.level}: {reached(search.most(budget))}"]
        for deeper in LEVELS[LEVELS.index(task.level) + 1 :]:
            try:
                levels.append(f"--level {deeper}, before training: {reached(Search(replace(task, level=deeper)).most(budget))}")
            except MpccError as error:
                levels.append(f"--level {deeper}: nothing without training ({error.what})")
        raise BudgetError(
            f"the budget of {budget} cannot be met at level {task.level} on {task.network.name}",
            hint="What can be met: " + "; ".join(levels),
        )
    if max_drop is not None and found.point.drop > max_drop:
        raise BudgetError(
            f"the budget of {budget} costs {found.point.drop:.3g} ({found.metric.drop_name}), more than {max_drop:.3g}",
            hint="Raise the budget, or the loss that you allow.",
        )
    return found
