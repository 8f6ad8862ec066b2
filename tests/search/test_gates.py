"""Spline gates without a search: taken where they are faster, by the network and by what local work takes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from mpcc import registry
from mpcc.approximate import Choice
from mpcc.ir.nn import site_operator
from mpcc.pipeline import Prepared, first_plan, prepare, task_of
from mpcc.search.gates import quickest, with_gates
from mpcc.search.layouts import layouts
from mpcc.search.pricing import fastest
from mpcc.search.target import Target
from mpcc.search.task import Task
from tests.models.two_blocks import two_blocks

SLOW_GATES = 1e-4
"""Seconds a word of leaves, at which no gate on every value is worth its rounds on one machine."""


@cache
def prepared() -> Prepared:
    model, inputs = two_blocks()
    generator = torch.Generator().manual_seed(0)
    return prepare(model, inputs, calibration=torch.randn((64, *inputs[0].shape[1:]), generator=generator))


def task(network: str, per_leaf: float | None = None) -> Task:
    made = task_of(prepared(), Target(network=network, machine="reference"))
    return made if per_leaf is None else replace(made, compute=replace(made.compute, per_leaf=per_leaf))


def test_without_prices_a_plan_has_no_gates() -> None:
    known = registry.approximations()
    plan = first_plan(prepared(), "bounded")
    assert not any(known[one.approximation].gate for entry in plan.choices.values() for one in entry.choices)


def test_gates_are_taken_where_rounds_are_dear() -> None:
    best = quickest(first_plan(prepared(), "bounded"), task("wan"))
    chosen = {site_operator(site): entry for site, entry in best.plan.choices.items() if isinstance(entry, Choice)}
    assert chosen["softmax"].approximation == "softmax_grid" and chosen["gelu"].approximation == "gelu_grid"
    before = fastest(layouts(first_plan(prepared(), "bounded"), registry.approximations()), task("wan"))
    assert best.program.cost.rounds < before.program.cost.rounds


@pytest.mark.parametrize("network", ["lan"])
def test_gates_are_not_taken_where_work_is_dear(network: str) -> None:
    plan = first_plan(prepared(), "bounded")
    found = with_gates(plan, task(network, SLOW_GATES))
    kept = plan if found is None else found
    operators = {site_operator(s) for s, e in kept.choices.items() if e != plan.choices[s]}
    assert not operators & {"softmax", "gelu"}


def test_a_price_table_has_no_gates() -> None:
    other = replace(task("lan"), protocol=registry.protocol("semi2k"))
    assert with_gates(first_plan(prepared(), "bounded"), other) is None


def test_a_gate_that_changes_the_function_never_stands_for_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(registry.approximations())
    known["softmax_scaling"] = replace(known["softmax_scaling"], gate=True)  # as a plug-in may declare one
    ordered = {name: known[name] for name in sorted(known, key=lambda name: name == "softmax_scaling")}
    monkeypatch.setattr(registry, "approximations", lambda: ordered)
    found = with_gates(first_plan(prepared(), "structural"), task("wan"))
    assert found is not None
    softmaxes = [entry for site, entry in found.choices.items() if site_operator(site) == "softmax"]
    assert softmaxes and all(isinstance(one, Choice) and one.approximation == "softmax_grid" for one in softmaxes)


def test_a_gate_that_takes_about_as_long_is_taken_for_its_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, lan = first_plan(prepared(), "bounded"), task("lan")
    softmax = next(site for site in plan.choices if site_operator(site) == "softmax")

    def chosen(per_leaf: float) -> bool:
        found = with_gates(plan, replace(lan, compute=replace(lan.compute, per_leaf=per_leaf)))
        return found is not None and found.choices[softmax] != plan.choices[softmax]

    low, high = 0.0, SLOW_GATES
    for _ in range(20):  # the dearest leaves at which the gate is still taken
        middle = (low + high) / 2
        low, high = (middle, high) if chosen(middle) else (low, middle)
    monkeypatch.setattr("mpcc.search.gates.EQUAL", 1.0)
    assert not chosen(low)
