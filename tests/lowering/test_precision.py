"""Precision where several products follow one another without a truncation between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mpcc import pipeline, registry
from mpcc.approximate import Choice, Plan
from mpcc.approximate.expand import expand
from mpcc.runtime.engine.emulate import Emulator


class Attention(nn.Module):
    """[1, 17, 64]: one layer, as in the digits ViT."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = nn.LayerNorm(64), nn.Linear(64, 192), nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).reshape(1, 17, 3, 4, 16).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * 0.25).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(1, 17, 64))


def test_attention_without_a_softmax_keeps_the_precision_of_its_linear_layers() -> None:
    """Query, key, value and the projection share 62 bits untruncated; their inputs must not pay for that."""
    torch.manual_seed(0)
    inputs = torch.randn(32, 17, 64)
    prepared = pipeline.prepare(Attention().eval(), (inputs[:1],), calibration=inputs)
    known = registry.approximations()
    first = pipeline.first_plan(prepared, "bounded")
    (site,) = (name for name in first.choices if name.endswith("softmax"))
    plan = Plan({**first.choices, site: Choice("softmax_scaling", {})})
    expected = expand(prepared.graph, plan, known)(inputs[:1])
    found = Emulator(pipeline.schedule(prepared, plan))(inputs[:1])[0]
    assert (found - expected).abs().max() < 0.01 * expected.abs().max()
