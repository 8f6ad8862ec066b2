"""The front holds its own against every published recipe, under the engine's protocol and by price tables."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

import mpcc
from mpcc import pipeline
from mpcc.approximate import Plan
from mpcc.errors import MpccError
from mpcc.search.judge import Judge
from mpcc.search.pareto import CLEAR, covers, undominated
from mpcc.search.recipes import compared
from mpcc.search.target import Target
from mpcc.search.task import Point
from tests.models.two_blocks import two_blocks


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(16, 4, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("protocol", "network"), [("mpcc", "wan"), ("semi2k", "lan")])
def test_no_recipe_is_left_uncovered(images: torch.Tensor, protocol: str, network: str) -> None:
    model, inputs = two_blocks()
    asked: dict[str, Any] = {"calibration": images, "protocol": protocol, "network": network, "level": "structural"}
    points = pipeline.pareto(model, inputs, points=4, effort=0.5, **asked).points
    assert all(one.estimate.seconds < other.estimate.seconds for one, other in itertools.pairwise(points))
    judge = Judge(pipeline.task_of(pipeline.prepare(model, inputs, calibration=images), Target(protocol)))
    run = 0
    for recipe in compared():
        try:
            made = mpcc.optimize(model, inputs, recipe=recipe, **asked)
        except MpccError:
            continue
        run += 1
        loss, _ = judge(made.plan)
        covering = [p for p in points if p.estimate.seconds <= made.estimate.seconds and p.loss <= max(loss, 1e-5)]
        assert covering, f"{recipe}: {made.estimate.seconds:.4g} s, {loss:.3g}"
    assert run >= 5


def test_at_level_bounded_only_the_recipe_that_keeps_everything_counts(images: torch.Tensor) -> None:
    points = pipeline.pareto(*two_blocks(), points=3, calibration=images, level="bounded", effort=0.5).points
    assert {point.plan.notes.get("recipe", "stock") for point in points} == {"stock"}


@pytest.fixture(scope="module")
def point(images: torch.Tensor) -> Point:
    return pipeline.pareto(*two_blocks(), points=2, calibration=images, level="bounded", effort=0.5).points[0]


def at(point: Point, seconds: float, loss: float, recipe: str | None = None) -> Point:
    plan = Plan({}, {} if recipe is None else {"recipe": recipe})
    return replace(point, plan=plan, loss=loss, estimate=replace(point.estimate, seconds=seconds))


def test_a_recipe_goes_only_where_a_point_is_clearly_better(point: Point) -> None:
    fast, slow = at(point, 1.0, 0.5), at(point, 3.0, 0.1)
    near, far = at(point, 2.0, 0.55, "near"), at(point, 2.0, 0.5 / CLEAR, "far")
    assert covers(fast, far) and not covers(fast, near) and not covers(slow, far)
    assert undominated([slow, far, fast]) == [fast, slow]
    assert undominated([slow, near, fast]) == [fast, near, slow]
    assert undominated([fast, at(point, 2.0, 0.55), slow]) == [fast, slow]
    assert covers(at(point, 1.0, 5e-6), at(point, 1.0, 1e-6, "stock"))  # both are roundings
