"""The solver's plan is the best of all plans: compared with every combination, on random problems."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from mpcc.cost import Work
from mpcc.search.problem import Edge, Limit, Option, Problem, Slot, Weights, longest
from mpcc.search.solver import holds, solve

LOSS = Weights(loss=1.0)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Up to four sites of one to three parts, in a chain or side by side, rounds, bytes and losses at random.

    The parts of some sites choose among the same forms, each with a price that is paid once a site.
    """
    sites = [f"s{i}" for i in range(draw(st.integers(1, 4)))]
    slots = []
    for site in sites:
        prices = draw(st.none() | st.lists(_once(), min_size=4, max_size=4))
        for _ in range(draw(st.integers(1, 3 if len(sites) < 3 else 1))):
            options = draw(st.lists(_options(), min_size=1, max_size=4))
            if prices is not None:
                options = [replace(o, form=form, once=prices[form]) for form, o in enumerate(options)]
            slots.append(Slot(site, tuple(options)))
    edges: list[Edge] = []
    for index, site in enumerate(sites):
        before = draw(st.sampled_from([None, *sites[:index]]))
        edges.append(Edge(before, site, draw(st.integers(0, 2))))
        if index and draw(st.booleans()):
            edges.append(Edge(sites[index - 1], site, draw(st.integers(0, 2))))
    edges += [Edge(site, None, draw(st.integers(1, 2))) for site in sites]
    fixed = Work(draw(st.integers(0, 5)), draw(st.integers(0, 500)), 0.0)
    return Problem(tuple(slots), tuple(edges), fixed, parallel=draw(st.booleans()))


def _options() -> st.SearchStrategy[Option]:
    return st.builds(
        lambda rounds, size, local, loss: Option(Work(rounds, size, local / 1000), loss / 100),
        st.integers(0, 12),
        st.integers(0, 1000),
        st.integers(0, 50),
        st.integers(0, 300),
    )


def _once() -> st.SearchStrategy[Work]:
    return st.builds(
        lambda rounds, size, local: Work(rounds, size, local / 1000), st.integers(0, 6), st.integers(0, 500), st.integers(0, 30)
    )


@st.composite
def limits(draw: st.DrawFn) -> list[Limit]:
    """A budget in rounds, in bytes, or in seconds of some network; sometimes two of them."""
    found = []
    for kind in draw(st.lists(st.sampled_from(["rounds", "bytes", "seconds"]), min_size=1, max_size=2, unique=True)):
        if kind == "rounds":
            found.append(Limit(Weights(rounds=1.0), draw(st.integers(1, 40))))
        elif kind == "bytes":
            found.append(Limit(Weights(bytes=1.0), draw(st.integers(1, 4000))))
        else:
            latency, per_byte = draw(st.sampled_from([0.001, 0.05])), draw(st.sampled_from([1e-5, 1e-3]))
            found.append(Limit(Weights(latency, per_byte, 1.0), draw(st.integers(1, 400)) / 100))
    return found


def every(problem: Problem) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(len(slot.options)) for slot in problem.slots)))


@settings(max_examples=150, deadline=None)
@given(problems(), limits())
def test_no_plan_within_the_limits_loses_less(problem: Problem, bounds: list[Limit]) -> None:
    allowed = [p for p in every(problem) if all(holds(problem, limit, p) for limit in bounds)]
    found = solve(problem, LOSS, bounds)
    if not allowed:
        assert found is None
        return
    assert found in allowed
    assert problem.loss(found) == pytest.approx(min(map(problem.loss, allowed)), abs=1e-5)


@settings(max_examples=75, deadline=None)
@given(problems(), st.integers(0, 600), st.sampled_from([Weights(1.0), Weights(0.05, 1e-5, 1.0), Weights(0.0, 1.0)]))
def test_no_plan_within_a_loss_is_faster(problem: Problem, most: int, objective: Weights) -> None:
    bound = Limit(LOSS, most / 100)
    allowed = [p for p in every(problem) if holds(problem, bound, p)]
    found = solve(problem, objective, [bound])
    if not allowed:
        assert found is None
        return
    assert found in allowed
    best = min(problem.measure(objective, p) for p in allowed)
    assert problem.measure(objective, found) == pytest.approx(best, rel=1e-5, abs=1e-6)


def test_parts_of_a_site_share_its_rounds() -> None:
    """Two parts, slow ones harmless: once one is slow the other is slow for nothing."""
    fast, slow = Option(Work(2, 0), 1.0), Option(Work(9, 0), 0.0)
    problem = Problem((Slot("a", (fast, slow)), Slot("a", (fast, slow))), (Edge(None, "a", 1), Edge("a", None, 1)))
    assert problem.work((1, 0)).rounds == problem.work((1, 1)).rounds == 11
    assert solve(problem, LOSS, [Limit(Weights(rounds=1.0), 11)]) == (1, 1)
    assert solve(problem, LOSS, [Limit(Weights(rounds=1.0), 10)]) == (0, 0)
    assert solve(problem, LOSS, [Limit(Weights(rounds=1.0), 3)]) is None


def test_parts_that_choose_alike_pay_a_form_once() -> None:
    """Two cheap parts cost 1 + 1 + 10; one of each form would cost 1 + 5 + 10 + 10."""
    cheap = Option(Work(0, 1), 1.0, form=0, once=Work(0, 10))
    dear = Option(Work(0, 5), 0.0, form=1, once=Work(0, 10))
    problem = Problem((Slot("a", (cheap, dear)), Slot("a", (cheap, dear))), (Edge(None, "a", 1), Edge("a", None, 1)))
    assert [problem.work(picks).bytes for picks in ((0, 0), (0, 1), (1, 1))] == [12, 26, 20]
    assert solve(problem, LOSS, [Limit(Weights(bytes=1.0), 20)]) == (1, 1)
    assert solve(problem, LOSS, [Limit(Weights(bytes=1.0), 19)]) == (0, 0)


def test_branches_side_by_side_cost_the_longer_one() -> None:
    edges = (Edge(None, "a", 1), Edge(None, "b", 1), Edge("a", "c", 1), Edge("b", "c", 2), Edge("c", None, 1))
    assert longest(edges, {"a": 5, "b": 1, "c": 3}) == 1 + 5 + 1 + 3 + 1


def test_an_anchored_problem_prices_the_program_that_was_made() -> None:
    slot = Slot("a", (Option(Work(3, 100, 0.1), 0.0), Option(Work(1, 10, 0.0), 1.0)))
    problem = Problem((slot,), (Edge(None, "a", 1), Edge("a", None, 1))).corrected_to((0,), Work(8, 150, 0.5))
    assert problem.work((0,)) == Work(8, 150, 0.5)
    assert problem.work((1,)).rounds == 6 and problem.work((1,)).bytes == 60


def test_a_problem_without_slots() -> None:
    assert solve(Problem((), (Edge(None, None, 2),)), LOSS, [Limit(Weights(rounds=1.0), 2)]) == ()
    assert solve(Problem((), (Edge(None, None, 3),)), LOSS, [Limit(Weights(rounds=1.0), 2)]) is None


@settings(max_examples=50, deadline=None)
@given(problems())
def test_sites_as_wholes_cost_and_lose_what_their_parts_do_alike(problem: Problem) -> None:
    fewest = {site: min(len(problem.slots[p].options) for p in where) for site, where in problem.sites.items()}
    cut = tuple(replace(slot, options=slot.options[: fewest[slot.site]]) for slot in problem.slots)
    problem = replace(problem, slots=cut)
    if any(len(where) > 1 and problem.slots[where[0]].options[0].form is None for where in problem.sites.values()):
        return  # parts without common forms: nothing says what alike means
    for picks in every(problem.whole):
        assert problem.whole.work(picks).bytes == problem.work(problem.in_parts(picks)).bytes
        assert problem.whole.work(picks).rounds == problem.work(problem.in_parts(picks)).rounds
        assert problem.whole.loss(picks) == pytest.approx(problem.loss(problem.in_parts(picks)))


def two_slots() -> Problem:
    """Two sites; the options of less loss are more expensive."""
    options = (Option(Work(1, 10.0), 0.0), Option(Work(0, 1.0), 1.0))
    return Problem((Slot("a", options), Slot("b", options)), (Edge(None, "a", 1), Edge("a", "b", 1), Edge("b", None, 1)))


def test_what_the_solver_s_library_prints_does_not_reach_the_output(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = optimize.milp

    def talking(*args: Any, **kwargs: Any) -> Any:
        os.write(1, b"solver: a line that nobody asked for\n")
        return real(*args, **kwargs)

    monkeypatch.setattr(optimize, "milp", talking)
    print("before")
    assert solve(two_slots(), LOSS, [Limit(Weights(bytes=1.0), 11.0)]) in ((0, 1), (1, 0))
    print("after")
    assert capfd.readouterr().out == "before\nafter\n"


def test_a_search_that_was_stopped_before_it_had_a_plan_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    real, limits = optimize.milp, []

    def stopped(*args: Any, **kwargs: Any) -> Any:
        limits.append(kwargs["options"].get("node_limit"))
        found = real(*args, **kwargs)
        return optimize.OptimizeResult(x=None, status=1) if limits[-1] is not None else found

    monkeypatch.setattr(optimize, "milp", stopped)
    assert solve(two_slots(), LOSS, [Limit(Weights(bytes=1.0), 20.0)], gap=1e-3) == (0, 0)
    assert limits[0] is not None and limits[1] is None
    assert solve(two_slots(), LOSS, [Limit(Weights(bytes=1.0), 1.0)], gap=1e-3) is None
