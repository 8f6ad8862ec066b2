"""The probability that an inference goes wrong stays in its budget, whatever that costs in rounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mpcc.ir import mpc
from mpcc.lowering import Settings, lower
from mpcc.lowering.lower import Lowering
from mpcc.lowering.narrowing import Tried
from tests.models.programs import SHAPE, graph_of

COUNT = 24


def branches(x: Any, *weights: Any) -> Any:
    """Many products that are cut before they enter a layer and a matrix product."""
    total = None
    for i, w in enumerate(weights):
        y = mpc.linear(mpc.mul(x, mpc.add(x, i / 32)), w, None)
        z = mpc.matmul(y, torch.ops.aten.permute.default(y, (0, 2, 1)))
        total = z if total is None else mpc.add(total, z)
    return total


def test_local_truncations_give_way_to_the_budget() -> None:
    """Each alone would fit a sixteenth of the budget; all together do not."""
    generator = torch.Generator().manual_seed(0)
    weights = {f"w{i}": torch.randn(16, 16, generator=generator) / 4 for i in range(COUNT)}
    module = graph_of(branches, SHAPE, **weights)
    free, first = lower(module), Lowering(module, Settings(), 1 / 16, Tried())
    first.run()
    assert len(first.ledger.entries) == COUNT and 0 < free.failure_probability <= 1e-6
    largest = max(probability for _, _, probability in first.ledger.entries)
    budget = 16.5 * largest
    assert free.failure_probability > budget
    held = lower(module, Settings(failure_budget=budget))
    assert held.failure_probability <= budget and held.cost.rounds >= free.cost.rounds
    none = lower(module, Settings(failure_budget=0.0))
    assert none.failure_probability == 0.0 and none.failures == ()


@pytest.mark.parametrize("budget", [1e-6, 1e-9, 1e-15])
def test_any_budget_is_kept(budget: float) -> None:
    module = graph_of(lambda x, w: branches(x, w, w), SHAPE, w=torch.eye(16))
    assert lower(module, Settings(failure_budget=budget)).failure_probability <= budget


def test_a_program_says_of_its_failures_only_the_sum_to_two_digits() -> None:
    """Each layer's own probability would tell the size of its values on the owner's inputs."""
    module = graph_of(lambda x, w: branches(x, w, w), SHAPE, w=torch.eye(16))
    ((layer, _, probability),) = lower(module).failures
    assert layer == "local truncations" and probability == float(f"{probability:.1e}")
