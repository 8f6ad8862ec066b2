"""An example for your repository: a test that fails when private inference of your model becomes more expensive.

pytest examples/ci --update-op-counts      writes mlp.op-counts.json; commit it
pytest examples/ci                         compares
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from mpcc.cost import OpCounts


def model() -> nn.Module:
    """Stands in for your model. [1, 16] -> [1, 4]"""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4)).eval()


def test_private_inference_stays_cheap(op_counts: Callable[..., OpCounts]) -> None:
    inputs = torch.randn(64, 16, generator=torch.Generator().manual_seed(1))
    counts = op_counts(model(), (inputs[:1],), calibration=inputs, name="mlp")
    assert counts.rounds <= 10
