"""The model that the engine is measured on, under the plan without a search: what its program costs, and how far off it is."""

from __future__ import annotations

import pytest
import torch

import mpcc
from tests.models.vit_lite import smooth_image, vit_lite_7_4_32


@pytest.mark.slow
def test_it_meets_the_targets() -> None:
    """ViT-Lite 7/4/32, softmax and true GELU, calibrated on 64 images, five others compared (as benchmarks/engine.py)."""
    model, example = vit_lite_7_4_32()
    calibration = torch.cat([smooth_image(32, seed=seed) for seed in range(1000, 1064)])
    made = mpcc.compile(model, example, calibration=calibration)
    assert isinstance(made, mpcc.Executable)
    cost = made.program.cost
    assert cost.rounds <= 174
    assert cost.rounds <= 174
    assert cost.bytes <= 17e6
    assert made.program.failure_probability <= 1e-6
    images = torch.cat([smooth_image(32, seed=seed) for seed in range(1, 6)])
    found = made.emulate(images, check=False)
    with torch.no_grad():
        assert (found - model(images)).abs().max() <= 0.015
