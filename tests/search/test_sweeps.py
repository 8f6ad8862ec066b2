"""Sweeps are the same, bit for bit, whatever runs them: one thread, several, processes, Ray."""

from __future__ import annotations

import importlib.util

import pytest
import torch

import mpcc
from mpcc import pipeline
from mpcc.search.search import Search
from mpcc.search.target import Objective, Target
from mpcc.workers import on
from tests.models.two_blocks import two_blocks


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(16, 4, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcc.search.cache.read", lambda key: {})


@pytest.fixture
def two_threads() -> None:
    torch.set_num_threads(2)


@pytest.mark.usefixtures("two_threads")
def test_threads_make_no_difference(images: torch.Tensor) -> None:
    prepared = pipeline.prepare(*two_blocks(), calibration=images)
    task = pipeline.task_of(prepared, Target(network="wan", machine="reference"), Objective("structural", effort=0.5))
    found = []
    for count in (1, None):
        with on(count):
            search = Search.of(task)
            walker = search.trials.walker()
            assert walker is not None
            slots = search.problem.slots
            many = [tuple((pick + step) % len(slot.options) for pick, slot in zip(search.exact, slots, strict=True))
                    for step in range(4)]  # fmt: skip
            structural = walker.walk(many[-1])
            rows = walker.results(many, structural) + walker.results(many, structural)
            found.append((search.trials.measurements.losses, [(row.loss, row.drop) for row in rows]))
            torch.set_num_threads(2)
    assert found[0] == found[1]
    assert len({loss for loss, _ in found[0][1]}) > 1


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "ray"])
def test_the_plan_is_the_same_in_other_processes(images: torch.Tensor, backend: str) -> None:
    if backend == "ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    found, images = [], torch.cat([images, images.flip(-1), -images, images.flip(0) / 2])  # enough that layers are mended
    for count, where in ((1, None), (2, backend)):
        with on(count, where):
            made = mpcc.optimize(
                *two_blocks(), calibration=images, network="wan", machine="reference", budget="0.3s", level="structural", effort=1
            )
        assert made.chosen is not None and made.chosen.runs > 3
        found.append(made.plan.to_json())
    assert found[0] == found[1]
