"""Heads and tokens of different kinds in one block, run by two parties and a dealer: the emulation, at the stated cost."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mpcc import registry
from mpcc.approximate import Split
from mpcc.lowering import Settings
from mpcc.pipeline import prepare, schedule
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.net.transport import Phase
from mpcc.search import recipe_plan
from tests.models.programs import Threads


class Block(nn.Module):
    """[1, 6, 8] -> attention of two heads, then an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj, self.fc1, self.act, self.fc2 = (
            nn.Linear(8, 24),
            nn.Linear(8, 8),
            nn.Linear(8, 16),
            nn.GELU(),
            nn.Linear(16, 8),
        )

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).reshape(1, 6, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = (query @ key.transpose(-2, -1) * 0.5).softmax(-1) @ value
        x = x + self.proj(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.fc2(self.act(self.fc1(x)))


def test_the_run_is_the_emulation_at_the_stated_cost() -> None:
    torch.manual_seed(0)
    prepared = prepare(Block().eval(), (torch.randn(1, 6, 8),), calibration=torch.randn(64, 6, 8))
    plan = recipe_plan("mpcvit+:0.5", prepared.graph, prepared.inputs, registry.approximations())
    assert all(isinstance(entry, Split) for entry in plan.choices.values())
    program = schedule(prepared, plan, Settings(answers=0))  # without noise, which the emulation leaves out
    x = torch.randn(1, 6, 8)
    with Threads(program) as session:
        output = session.run(x)[0]
        traffic = session.between["client"].traffic[Phase.ONLINE, 0]
    assert (traffic.rounds, traffic.bytes) == (program.cost.rounds, program.cost.bytes)
    torch.testing.assert_close(output, Emulator(program)(x)[0], rtol=0, atol=2e-3)
