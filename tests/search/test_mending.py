"""Plans compared as they are once compensated, plans to start from, labels, several budgets: on a model of two blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import mpcc
from mpcc import pipeline
from mpcc.approximate import Choice, Plan
from mpcc.cost import Budget
from mpcc.errors import PlanError, ShapeError, UsageError
from mpcc.pipeline.compensation import to_be_compensated, was_compensated
from mpcc.search.known import Known
from mpcc.search.metrics import CLASSES, LOST, with_labels
from mpcc.search.questions import best_within_budget
from mpcc.search.search import Search
from mpcc.search.target import Objective, Target
from mpcc.search.task import Task
from tests.models.two_blocks import two_blocks

EFFORT = 0.3


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Correlated inputs: what a solve can learn something from."""
    generator = torch.Generator().manual_seed(1)
    return torch.einsum("ni,ijk->njk", torch.randn(96, 5, generator=generator), torch.randn(5, 4, 8, generator=generator))


@pytest.fixture(scope="module")
def prepared(images: torch.Tensor) -> pipeline.Prepared:
    return pipeline.prepare(*two_blocks(), calibration=images)


@pytest.fixture(scope="module")
def task(prepared: pipeline.Prepared) -> Task:
    found = pipeline.task_of(prepared, Target(network="wan", machine="reference"), Objective("structural", effort=EFFORT))
    return replace(found, compensate=True)


@pytest.fixture(scope="module")
def search(task: Task) -> Search:
    return Search.of(task)


def plain(search: Search) -> Search:
    return search.under(replace(search.trials.task, compensate=False))


def test_runs_and_judgements_see_what_compensation_makes_of_a_plan(search: Search) -> None:
    picks, _ = search.cheapest(search.trials.speed)
    with_it, without = search.trials.walker(), plain(search).trials.walker()
    assert with_it is not None and without is not None
    assert with_it.walk(picks).loss < 0.7 * without.walk(picks).loss
    plan, fresh = search.trials.plan(picks), Search.of(replace(search.trials.task, compensate=False))
    assert search.trials.judge(plan)[0] < 0.7 * fresh.trials.judge(plan)[0]


def test_a_run_from_another_plan_is_that_of_the_whole(search: Search) -> None:
    walker, bare = search.trials.walker(), plain(search).trials.walker()
    assert walker is not None and bare is not None and walker.mender is not None and bare.mender is None
    base = walker.walk(search.exact)
    picks, _ = search.cheapest(search.trials.speed)
    again = walker.result(picks, base)  # from the first site at which they differ
    assert again.loss == pytest.approx(walker.walk(picks).loss, rel=1e-5)


def test_new_weights_are_those_of_the_layer_behind_and_only_where_they_help(search: Search) -> None:
    walker = search.trials.walker()
    assert walker is not None and walker.mender is not None
    mender, seen = walker.mender, list[dict[Any, Any]]()
    solved = mender.solved
    mender.solved = lambda *given: seen.append(solved(*given)) or seen[-1]  # type: ignore[func-returns-value,method-assign]
    walker.walk(search.cheapest(search.trials.speed)[0])
    names = {str(node.target) for one in seen for node in one}
    assert "head.weight" in names and "head.bias" in names and "blocks.0.q.weight" not in names


def test_few_inputs_divide_no_further(prepared: pipeline.Prepared, task: Task) -> None:
    few = replace(task, inputs=task.columns[0][:16], given=0)
    assert task.mends and task.apart == 48 and not few.mends


def test_an_answer_is_at_least_as_good_as_the_plan_to_start_from(search: Search) -> None:
    known = Known(search.trials)
    assert known.accurate is not None
    budget = Budget(0.8 * float(known.accurate.estimate.seconds), "seconds")
    found = best_within_budget(search, budget)
    assert found is not None and found.compensated and budget.met_by(found.point.estimate)
    hurried = replace(search.trials.task, effort=0.0, start=found.point.plan)
    again = best_within_budget(search.under(hurried), budget)
    assert again is not None and again.point.loss <= found.point.loss * (1 + 1e-6) and again.runs < found.runs


def test_a_plan_to_start_from_must_fit(search: Search, task: Task) -> None:
    def asked(plan: Plan, **how: Any) -> None:
        _ = Known(search.under(replace(task, start=plan, **how)).trials).recipes

    with pytest.raises(PlanError, match="no such site"):
        asked(Plan({"blocks.7.act.gelu": Choice("gelu_quad")}))
    cheap = search.trials.plan(search.cheapest(search.trials.speed)[0])
    with pytest.raises(UsageError, match="changes more than"):
        asked(cheap, kept=frozenset(cheap.choices))


def test_a_drop_is_one_of_accuracy_where_labels_are_known() -> None:
    reference, labels = (torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]], [[0.0, 3.0]]]),), torch.tensor([[0], [1], [0]])
    metric = with_labels(CLASSES, labels)
    turned = (torch.tensor([[[2.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]]]),)
    assert metric.on(slice(3)).drop(turned, reference) == pytest.approx(0.0)  # one lost, one won
    assert metric.on(slice(2)).drop(tuple(v[:2] for v in turned), tuple(v[:2] for v in reference)) == pytest.approx(0.5)
    nan = (torch.full((3, 1, 2), float("nan")),)
    assert metric.on(slice(3)).drop(nan, reference) == pytest.approx(2 / 3)
    assert CLASSES.on(slice(1)) is CLASSES
    with pytest.raises(UsageError, match="metric"):
        with_labels(replace(CLASSES), labels)


def test_labels_decide_what_a_drop_allows(images: torch.Tensor) -> None:
    model, inputs = two_blocks()
    with torch.no_grad():
        labels = torch.cat([model(one[None]) for one in images]).argmax(-1)
    how: dict[str, Any] = dict(calibration=images, machine="reference", network="wan", level="structural", effort=EFFORT)
    made = mpcc.optimize(model, inputs, max_drop=0.05, labels=labels, **how)
    chosen = made.chosen
    assert chosen is not None and chosen.metric.drop_name == LOST and chosen.accuracy is not None
    assert chosen.accuracy[0] == 1.0 and chosen.accuracy[0] - chosen.accuracy[1] == pytest.approx(chosen.point.drop)
    assert chosen.point.drop <= 0.05
    for wrong, says in ((labels[:50], "50 labels for 96"), (labels + 5, "classes 0 to 2"), (labels + 0.5, "whole")):
        with pytest.raises((ShapeError, UsageError), match=says):
            mpcc.optimize(model, inputs, max_drop=0.05, labels=wrong, **how)


def test_several_budgets_are_one_search(images: torch.Tensor) -> None:
    model, inputs = two_blocks()
    how: dict[str, Any] = dict(calibration=images, machine="reference", network="wan", level="structural", effort=EFFORT)
    loose, tight, none = mpcc.optimize_within(model, inputs, budgets=["60s", "15rounds", "2rounds"], **how)
    assert loose is not None and tight is not None and none is None
    assert tight.estimate.rounds <= 15 < loose.estimate.rounds
    assert loose.chosen is not None and tight.chosen is not None and loose.chosen.point.loss <= tight.chosen.point.loss
    assert tight.compensation is not None and tight.plan.notes["made_by"] == "search"
    with pytest.raises(UsageError, match="several budgets"):
        mpcc.optimize_within(model, inputs, budgets=["2s"], max_drop=0.1)
    with pytest.raises(UsageError, match="there is no budget"):
        mpcc.optimize_within(model, inputs, budgets=[])


def test_plans_of_a_front_ask_for_the_compensation_that_they_were_judged_with(search: Search) -> None:
    accurate = Known(search.trials).accurate
    assert accurate is not None
    cheapest = search.trials.point(search.cheapest(search.trials.speed)[0], 0.0)
    fastest, slowest = (to_be_compensated(point).plan for point in (cheapest, accurate))
    assert was_compensated(fastest) and not was_compensated(slowest)
