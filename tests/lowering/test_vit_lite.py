"""The models that the engine is measured on, under plans without a search: what their programs cost, and how far off they are."""

from __future__ import annotations

import pytest
import torch

from mpcc import registry
from mpcc.approximate import Choice, Plan
from mpcc.pipeline import Prepared, prepare, schedule
from mpcc.program import Program
from mpcc.program.check import check_masks
from mpcc.runtime.engine.emulate import Emulator
from tests.models.vit_lite import VisionTransformer, randomize, smooth_image, vit_lite_7_4_32

LAYER = 12
"""Rounds of a layer: stream; variance; factor and q k^T; logits; exp and its sum; e v and 1/sum; output; and for the MLP stream;
variance; factor; activation; hidden values."""
AROUND = 5
"""Of the rest: the patches, three of the last norm and its head, and the answer."""


def with_gates(prepared: Prepared) -> Plan:
    """The default candidate of the gate of each site."""
    gates = {one.operator: one for one in registry.approximations().values() if one.gate}
    choices = {}
    for site, seen in prepared.statistics.items():
        gate = gates[seen.site.operator]
        choices[site] = Choice(gate.name, dict(gate.candidates(seen)[0]))
    return Plan(choices)


def program_of(model: torch.nn.Module, side: int, calls: int) -> Program:
    images = torch.cat([smooth_image(side, seed=seed) for seed in range(1000, 1000 + calls)])
    prepared = prepare(model, (images[:1],), calibration=images)
    return schedule(prepared, with_gates(prepared))


def test_a_layer_takes_twelve_rounds() -> None:
    """Of ViT-Lite in small: rounds do not depend on its widths."""
    depth = 3
    model = randomize(VisionTransformer(image=16, width=32, depth=depth, heads=2, hidden=64)).eval()
    program = program_of(model, 16, 64)
    assert program.cost.rounds == depth * LAYER + AROUND
    check_masks(program)
    images = [smooth_image(16, seed=seed) for seed in range(1, 6)]
    with torch.no_grad():
        errors = [(Emulator(program)(image)[0] - model(image)).abs().max() for image in images]
    assert max(errors) < 0.008
    assert program.failure_probability <= 1e-6


@pytest.mark.slow
def test_it_meets_the_targets() -> None:
    """ViT-Lite 7/4/32, softmax and true GELU, calibrated on 64 images, five others compared (as benchmarks/engine.py)."""
    model, _ = vit_lite_7_4_32()
    program = program_of(model, 32, 64)
    cost = program.cost
    assert cost.rounds == 7 * LAYER + AROUND <= 92
    assert cost.bytes <= 13e6
    assert cost.dealer_bytes <= 120e6
    assert program.failure_probability <= 1e-6
    check_masks(program)
    images = [smooth_image(32, seed=seed) for seed in range(1, 6)]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        found = torch.cat([Emulator(program)(image)[0] - model(image) for image in images])
    noisy = found + program.flood[0] * torch.randn(100, *found.shape, generator=generator)
    assert noisy.abs().flatten(1).amax(1).median() <= 0.008
