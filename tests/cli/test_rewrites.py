"""The table of rewrites of `mpcc optimize --verbose`: where a pass fired, and why it did not fire elsewhere."""

from __future__ import annotations

import torch
from torch import nn

from mpcc import pipeline
from mpcc.cli.rewrites import Rewrites
from mpcc.rewrite import observers


class Model(nn.Module):
    """A norm that a linear layer reads, and one that only an activation reads."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.linear, self.behind = nn.LayerNorm(4), nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.gelu(self.behind(self.linear(self.before(x))))


def test_where_a_pass_fired_and_why_not_elsewhere() -> None:
    rewrites = Rewrites()
    pipeline.transform(Model().eval(), (torch.randn(1, 4),), observe=rewrites)
    assert rewrites.document() == {
        "fired": {"fold_norm_affine": ["before", "linear"]},
        "refused": {"fold_norm_affine": {"reads it outside a product": ["gelu_default"]}},
    }


def test_several_observers_see_every_step_and_none_is_none() -> None:
    one, other = [], []  # type: ignore[var-annotated]
    assert observers(None, None) is None
    pipeline.transform(Model().eval(), (torch.randn(1, 4),), observe=observers(one.append, None, other.append))
    assert one == other and one[0].name == "capture" and one[0].level == "nn"
