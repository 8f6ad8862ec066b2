"""The search on a real model: its problem solved as well as by enumeration, budgets met, joint loss measured."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import mpcc
from mpcc import pipeline
from mpcc.cost import Budget, Network
from mpcc.errors import BudgetError, RangeError, UsageError
from mpcc.search import Limit, Weights, solve
from mpcc.search.cache import folder
from mpcc.search.known import Known
from mpcc.search.metrics import CLASSES, load_metric
from mpcc.search.neighbourhood import edges, neighbourhood
from mpcc.search.pareto import front_points
from mpcc.search.pricing import weights_of
from mpcc.search.problem import longest
from mpcc.search.questions import best_within_budget, best_within_budgets, fastest_within_drop
from mpcc.search.replay import Replay
from mpcc.search.search import Search
from mpcc.search.target import Objective, Target
from tests.models.two_blocks import two_blocks

SOFTMAX, GELU = "blocks.0.attn.softmax", "blocks.0.act.gelu"


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(16, 4, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def search(images: torch.Tensor) -> Search:
    prepared = pipeline.prepare(*two_blocks(), calibration=images)
    return Search.of(pipeline.task_of(prepared, Target(network="wan"), Objective("structural", effort=0.5)))


def test_every_site_keeps_members_that_trade_cost_for_quality(search: Search) -> None:
    assert list(search.trials.space.candidates) == [SOFTMAX, GELU, "blocks.1.attn.softmax", "blocks.1.act.gelu"]
    for entry in search.trials.space.candidates.values():
        assert len(entry.kept) > 1 and entry.dropped
        for one, other in itertools.permutations(entry.kept, 2):
            dearer = one.work.rounds >= other.work.rounds and one.work.bytes >= other.work.bytes
            if dearer and one.work.local_seconds > 1.1 * other.work.local_seconds + 1e-5:
                assert one.loss < other.loss


@pytest.mark.parametrize("network", ["lan", "wan", "1ms,100kB/s"])
@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_the_solver_finds_the_best_of_all_plans(search: Search, network: str, part: float) -> None:
    problem, link = search.problem, Network.parse(network)
    seconds = Weights(0.5 * link.rtt_seconds, 0.5 / link.bandwidth, 1.0)
    every = list(itertools.product(*(range(len(slot.options)) for slot in problem.slots)))
    costs = [problem.measure(seconds, picks) for picks in every]
    most = min(costs) + part * (max(costs) - min(costs))
    found = solve(problem, Weights(loss=1.0), [Limit(seconds, most)])
    assert found is not None and problem.measure(seconds, found) <= most * (1 + 1e-9)
    best = min(problem.loss(picks) for picks, cost in zip(every, costs, strict=True) if cost <= most)
    assert problem.loss(found) == pytest.approx(best, rel=1e-4, abs=1e-9)


def test_predicted_costs_are_those_of_whole_programs(search: Search) -> None:
    """Between plans that differ at every site of a model this small: within three rounds and a third of the bytes."""
    ends = [tuple(0 for _ in search.problem.slots), tuple(len(slot.options) - 1 for slot in search.problem.slots)]
    first = search.trials.work(ends[0])
    predicted, exact = search.problem.corrected_to(ends[0], first).work(ends[1]), search.trials.work(ends[1])
    assert abs(predicted.rounds - exact.rounds) <= 3
    assert predicted.bytes == pytest.approx(exact.bytes, rel=0.33)


def test_a_budget_is_met_and_no_cheaper_plan_was_left_out(search: Search) -> None:
    loose, tight, none = best_within_budgets(search, [Budget(rounds, "rounds") for rounds in (40, 15, 3)])
    assert loose is not None and loose.point.estimate.rounds <= 40
    assert tight is not None and tight.point.estimate.rounds <= 15
    assert loose.point.loss < tight.point.loss and tight.runs > 10
    assert none is None


def test_a_budget_that_is_met_anyway_changes_nothing(search: Search) -> None:
    accurate = Known(search.trials).accurate
    found = best_within_budget(search, Budget(1.001 * float(accurate.estimate.seconds), "seconds")) if accurate else None
    assert found is not None and accurate is not None and found.runs == 0
    assert found.point.plan.choices == accurate.plan.choices


def test_the_loss_is_kept_and_the_plan_is_faster_than_the_exact_one(search: Search) -> None:
    found = fastest_within_drop(search, 0.1)
    assert found.point.drop <= 0.1
    assert found.point.estimate.seconds < search.trials.estimate(search.exact).seconds


def test_the_front_rises_in_cost_and_falls_in_loss(search: Search) -> None:
    points = front_points(search, 4)
    assert len(points) >= 2
    for one, other in itertools.pairwise(points):
        assert one.estimate.seconds < other.estimate.seconds and one.loss > other.loss


def test_larger_inputs_are_checked_as_far_as_inputs_reach(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    task = search.trials.task
    (column,), (larger,) = task.columns, task.enlarged(16)
    assert larger.min() == column.min() and larger.max() == column.max() and float(larger.std() / column[:16].std()) > 1.1
    monkeypatch.setattr("mpcc.search.task.STRETCH", 3e5)  # just within what fixed point holds
    wide = search.trials.on(replace(task, reach=(-1e9, 1e9)))
    with pytest.raises(RangeError, match="times as large"):
        wide.examined(search.exact)


def test_a_thin_link_and_a_slow_one_are_different_budgets() -> None:
    thin, slow = (Network.parse(text) for text in ("1ms,100kB/s", "200ms,1GB/s"))
    weights = [weights_of(Budget.parse("1s"), Weights(n.rtt_seconds / 2, 0.5 / n.bandwidth, 1.0)) for n in (thin, slow)]
    assert weights[0].bytes > 1000 * weights[1].bytes and weights[1].rounds > 100 * weights[0].rounds


def test_losses_are_kept_and_a_spoilt_file_is_measured_anew(search: Search) -> None:
    rows = {site: [m.choice for m in entry.kept] for site, entry in search.trials.space.candidates.items()}
    first = search.trials.measurements.sensitivity.sweep(rows)
    files = list(folder().glob("*.json"))
    assert files
    for file in files:
        file.write_text("{", encoding="utf-8")
    assert search.trials.measurements.sensitivity.sweep(rows) == first


def test_a_replay_is_a_run_with_that_function(search: Search, images: torch.Tensor) -> None:
    graph = search.trials.task.graph
    columns = (images.reshape(16, 1, 4, 8),)
    replay = Replay(graph, columns)
    (plain,), (other,) = replay.outputs({}), replay.outputs({GELU: torch.relu})
    assert torch.allclose(plain[3], graph(columns[0][3]), atol=1e-6)
    (whole,) = Replay(graph, columns, {GELU: torch.relu}).outputs({})
    assert torch.allclose(other, whole) and not torch.allclose(other, plain)


def test_a_neighbourhood_reaches_to_the_next_products(search: Search) -> None:
    nodes = {node.meta.get("site"): node for node in search.trials.task.graph.graph.nodes}
    attention = neighbourhood(search.trials.task.graph, nodes[SOFTMAX])
    assert attention.products == 2 and len(attention.sources) == 3
    assert neighbourhood(search.trials.task.graph, nodes[GELU]).products == 1


def test_rounds_run_along_the_longest_path(search: Search) -> None:
    found = edges(search.trials.task.graph)
    assert {edge.target for edge in found if edge.source is None} >= {SOFTMAX, None}
    sites = {edge.source for edge in found} - {None}
    assert longest(found, dict.fromkeys(map(str, sites), 10.0)) >= 40


def test_optimize_within_two_thirds_of_the_exact_latency(images: torch.Tensor) -> None:
    model, inputs = two_blocks()
    exact = mpcc.optimize(model, inputs, calibration=images, network="wan")
    less = Budget(exact.estimate.seconds * 2 / 3, "seconds")
    made = mpcc.optimize(model, inputs, calibration=images, network="wan", level="structural", budget=less, effort=0.5)
    assert less.met_by(made.estimate) and made.plan.notes["made_by"] == "search"
    again = mpcc.optimize(model, inputs, calibration=images, network="wan", level="structural", plan=made.plan)
    assert again.program.to_json() == made.program.to_json()
    assert made.chosen is not None and made.chosen.point.loss < 1.0
    assert made.errors["mean_error"] < 1.0  # a summand of few bits lost all of them once, and the plan was 3.8 off


def test_what_cannot_be_met_says_what_can(images: torch.Tensor) -> None:
    model, inputs = two_blocks()
    with pytest.raises(BudgetError, match="--level bounded: .* rounds.*--level structural, before training: .* rounds"):
        mpcc.optimize(model, inputs, calibration=images, budget="2rounds")


def test_another_protocol_chooses_by_its_own_prices(images: torch.Tensor) -> None:
    made = mpcc.optimize(*two_blocks(), calibration=images, protocol="cheetah", level="structural", budget="1GB", effort=0.5)
    assert made.estimate.protocol == made.baseline.protocol == "cheetah"


def test_a_model_without_sites_has_nothing_to_choose() -> None:
    made = mpcc.optimize(torch.nn.Sequential(torch.nn.Linear(4, 3)), (torch.randn(1, 4),), budget="9rounds")
    assert made.plan.choices == {} and made.chosen is not None


def test_metrics() -> None:
    outputs = (torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]]),)
    turned = (torch.tensor([[[0.0, 2.0]], [[0.0, 1.0]]]),)
    assert CLASSES.loss(outputs, outputs) == 0 and CLASSES.drop(outputs, outputs) == 0
    assert CLASSES.loss(turned, outputs) > 0 and CLASSES.drop(turned, outputs) == 0.5
    assert CLASSES.loss((outputs[0] * float("nan"),), outputs) == float("inf")


def test_metrics_by_name() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = (torch.randn(2, 1, 3, 8, 8, generator=generator),)
    for name in ("mse", "cosine", "iou"):
        found = load_metric(name)
        assert found.loss(maps, maps) == pytest.approx(0, abs=1e-12) and found.loss((-maps[0],), maps) > 0.5
    half = torch.zeros(1, 1, 1, 2, 4)
    half[..., :2] = 1.0  # of eight places four, and of these two are left: background 4 of 6, foreground 2 of 4
    less = half.clone()
    less[..., 1, :2] = 0.0
    assert load_metric("iou").loss((less,), (half,)) == pytest.approx(1 - (4 / 6 + 2 / 4) / 2)
    with pytest.raises(UsageError, match="iou"):
        load_metric("iou").loss((torch.ones(2, 1, 3),), (torch.ones(2, 1, 3),))
    with pytest.raises(UsageError, match="One of kl"):
        load_metric("accuracy")


def test_sites_that_are_kept_keep_their_function() -> None:
    prepared = pipeline.prepare(*two_blocks(), calibration=torch.randn(16, 4, 8, generator=torch.Generator().manual_seed(1)))

    def levels(**given: tuple[str, ...]) -> dict[str, str]:
        task = pipeline.task_of(prepared, objective=Objective("structural", **given))  # type: ignore[arg-type]
        return {site: task.level_at(site) for site in task.statistics}

    assert {s for s, level in levels(keep=("blocks.0.*",)).items() if level == "bounded"} == {SOFTMAX, GELU}
    assert {s for s, level in levels(only=("gelu",)).items() if level == "structural"} == {GELU, "blocks.1.act.gelu"}
    with pytest.raises(UsageError, match="no site is called 'block.0'"):
        levels(keep=("block.0",))
    with pytest.raises(UsageError, match="The operators: gelu, softmax"):
        levels(only=("norm",))


def test_a_metric_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_metric.py").write_text("def worst(outputs, reference):\n    return (outputs - reference).abs().max()\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = load_metric("own_metric:worst")
    assert found.loss((torch.ones(2, 1, 3),), (torch.zeros(2, 1, 3),)) == 1.0
    for name in ("own_metric:nothing", "no_such_module:f", "own_metric"):
        with pytest.raises(UsageError, match="--metric"):
            load_metric(name)
