"""Plans tried by what they do together: on losses that do not add up, the search finds what the added losses miss."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest

from mpcc.approximate import Choice
from mpcc.cost import Work
from mpcc.search.bars import barred
from mpcc.search.candidates import Candidate, Candidates
from mpcc.search.effort import FEWEST, PATIENCE, Effort
from mpcc.search.explorer import Explorer
from mpcc.search.moves import active, proposed
from mpcc.search.problem import Edge, Option, Picks, Problem, Slot, Weights
from mpcc.search.walk import Walk

SITES, BYTES = 7, Weights(bytes=1.0)
COSTS = (10.0, 6.0, 3.0, 1.0)


class Joint:
    """Stands in for a walker: neighbours that are both cheap do much more, or less, than each alone."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        self.alone = [sorted(draw.uniform(0, 1) for _ in COSTS[1:]) for _ in range(SITES)]
        self.pairs = [draw.uniform(-0.5, 2.0) for _ in range(SITES - 1)]
        self.runs = 0

    def loss(self, picks: Picks) -> float:
        alone = sum(row[pick - 1] if pick else 0.0 for row, pick in zip(self.alone, picks, strict=True))
        pairs = itertools.pairwise(picks)
        return max(0.0, alone + sum(w * a * b / 9 for w, (a, b) in zip(self.pairs, pairs, strict=True)))

    def walk(self, picks: Picks, base: Any = None) -> Walk:
        self.runs += 1
        return Walk(picks, (), self.loss(picks), 0.0)

    result = walk

    def results(self, many: Sequence[Picks], base: Walk) -> list[Walk]:
        return [self.result(picks, base) for picks in many]

    def problem(self) -> Problem:
        rows = [[0.0, *row] for row in self.alone]
        slots = [Slot(f"s{i}", tuple(map(Option, (Work(0, c) for c in COSTS), row))) for i, row in enumerate(rows)]
        names = [None, *(slot.site for slot in slots), None]
        return Problem(tuple(slots), tuple(Edge(a, b, 1.0) for a, b in itertools.pairwise(names)))


def explorer(joint: Joint, runs: int) -> Explorer:
    start = (0,) * SITES
    problem = joint.problem()
    return Explorer(joint, problem, BYTES, Effort(runs), start, problem.work(start))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("part", [0.35, 0.6])
def test_what_is_found_is_nearly_the_best_of_all_plans(seed: int, part: float) -> None:
    joint = Joint(seed)
    amount = part * SITES * COSTS[0]
    every = [p for p in itertools.product(range(len(COSTS)), repeat=SITES) if sum(COSTS[i] for i in p) <= amount]
    best, worst = min(map(joint.loss, every)), max(map(joint.loss, every))
    search = explorer(joint, 400)
    search.descend(amount)
    search.improve(amount, 400)
    found = search.ranked(amount)[0]
    assert sum(COSTS[i] for i in found) <= amount and joint.runs <= 800  # each base is walked once more
    assert joint.loss(found) <= best + 0.05 * (worst - best)
    added = proposed(joint.problem(), BYTES, amount)
    assert added is not None and joint.loss(found) <= joint.loss(added)


def test_the_same_runs_give_the_same_plan() -> None:
    found = []
    for _ in range(2):
        search = explorer(Joint(3), 150)
        search.descend(30.0)
        search.improve(30.0, 150)
        found.append(search.ranked(30.0))
    assert found[0] == found[1]


def test_no_more_runs_are_made_than_there_are() -> None:
    search = explorer(Joint(1), 20)
    search.descend(20.0)
    search.improve(20.0, 20)
    assert search.effort.used <= 20 and search.ranked(30.0)


def test_costs_are_set_right_by_the_nearest_program() -> None:
    search = explorer(Joint(1), 20)
    assert search.cost((1,) * SITES) == pytest.approx(6 * SITES)
    search.priced((2,) * SITES, Work(0, 3 * SITES + 5))
    assert search.cost((2,) * (SITES - 1) + (1,)) == pytest.approx(3 * (SITES - 1) + 6 + 5)
    assert search.cost((0,) * (SITES - 1) + (1,)) == pytest.approx(10 * (SITES - 1) + 6)


def test_what_fails_at_a_site_fails_with_the_same_choices_up_to_there() -> None:
    search = explorer(Joint(1), 20)
    search.refuse((1, 2, 3, 0, 0, 0, 0), "site s2")
    assert not search.usable((1, 2, 3, 3, 3, 3, 3)) and search.usable((1, 2, 2, 0, 0, 0, 0))
    search.refuse((1, 1, 1, 0, 0, 0, 0), "fc1 (addmm)")
    assert not search.usable((1, 1, 1, 0, 0, 0, 0)) and search.usable((1, 1, 1, 0, 0, 0, 1))


def test_ctrl_c_leaves_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    joint = Joint(2)
    search = explorer(joint, 400)

    def interrupted(picks: Picks, base: Any = None) -> Walk:
        if joint.runs > 40:
            raise KeyboardInterrupt
        return Joint.walk(joint, picks)

    monkeypatch.setattr(joint, "result", interrupted)
    search.descend(40.0)
    search.improve(40.0, 400)
    assert search.effort.stopped and search.ranked(50.0)


def test_the_clock_ends_a_search_and_says_so() -> None:
    now = [0.0]
    effort = Effort(100, 10.0, lambda: now[0])
    assert effort.left == 100 and not effort.stopped
    now[0] = 11.0
    assert effort.left == 0 and effort.stopped
    assert FEWEST > 1 and PATIENCE > 1


def test_further_budgets_of_one_question_give_the_clock_more_time() -> None:
    now = [0.0]
    effort = Effort(100, 3 * PATIENCE, lambda: now[0])
    effort.allow(2)
    now[0] = 3 * PATIENCE + 5.0
    assert effort.left == 100
    now[0] = 3 * PATIENCE + 7.0
    assert effort.left == 0


def test_options_that_cost_more_and_are_clearly_worse_are_not_run() -> None:
    row = [(10.0, 1e-6), (9.0, 2e-6), (5.0, 0.1), (6.0, 0.3), (4.9, 0.15), (1.0, 0.9)]
    slot = Slot("a", tuple(Option(Work(0, cost), loss) for cost, loss in row))
    assert active(Problem((slot,), (Edge(None, "a", 0), Edge("a", None, 0))), BYTES) == {"a": (1, 2, 4, 5)}


def test_what_was_barred_is_named_once_with_the_reason() -> None:
    kept = tuple(Candidate(Choice(name), Work(), 0.1) for name in ("softmax_relu", "softmax_scaling"))
    options = (Option(Work(), 1.0, usable=False, why="values are infinite"), Option(Work(), 2.0))
    slots = tuple(Slot("a.softmax", options) for _ in range(2))
    (bar,) = barred(Problem(slots), {"a.softmax": Candidates("a.softmax", kept)})
    assert str(bar) == "a.softmax: softmax_relu (values are infinite)"


def test_a_budget_that_no_tried_plan_meets_is_reached_once_prices_turn_out_higher() -> None:
    joint = Joint(0)
    search, amount = explorer(joint, 400), 0.5 * SITES * COSTS[0]
    search.descend(amount)
    for picks in list(search.tried):  # every program costs a tenth more than the sum over its sites
        work = search.problem.work(picks)
        search.priced(picks, Work(work.rounds, work.bytes + 0.1 * amount))
    for picks in search.ranked(amount):
        search.refuse(picks, "")
    assert not search.ranked(amount)
    search.improve(amount, 100)
    assert search.ranked(amount)
