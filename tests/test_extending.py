"""docs/extending.md: its snippets run as they stand; the protocol prices a whole transformer block, the engine runs one."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from mpcc import pipeline, registry
from mpcc.cost import LAN, Protocol, estimate_graph
from mpcc.pipeline import Optimized
from mpcc.program.program import FLOOD_REACH
from mpcc.testing.protocols import check_protocol
from tests.models.two_blocks import Block

TEXT = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
PROTOCOL, ENGINE = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def written(snippet: str) -> ModuleType:
    module = ModuleType("snippet")
    exec(compile(snippet, module.__name__, "exec", dont_inherit=True), vars(module))
    return module


class WholeBlock(nn.Module):
    """[1, 4, 8] -> the same: a norm, attention, a linear layer with GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.block = nn.LayerNorm(8), Block()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.norm(x))


@pytest.fixture(scope="module")
def made() -> Optimized:
    torch.manual_seed(0)
    return pipeline.optimize(WholeBlock().eval(), (torch.randn(1, 4, 8),), calibration=torch.randn(16, 4, 8))


def test_the_protocol_prices_a_whole_transformer_block_under_a_plan(made: Optimized) -> None:
    (protocol,) = registry.collect([written(PROTOCOL)], Protocol, "protocol").values()
    graph = pipeline.mpc_graph(made.module, made.plan)
    estimate = estimate_graph(graph, protocol, LAN)
    assert {"linear", "matmul", "curve"} <= {row.kind for row in estimate.sites}
    assert {row.site for row in estimate.sites} >= {"block.q.linear", "block.fc.linear", *made.plan.choices}
    assert estimate.rounds > 0 and estimate.bytes > 0
    weights, scale, bias = 4 * 64, 8, 8  # the norm's scale, and the queries' bias, which meets the keys
    assert estimate.setup.bytes == 8 * (weights + scale + bias)


def test_the_protocol_keeps_the_contract() -> None:
    (protocol,) = registry.collect([written(PROTOCOL)], Protocol, "protocol").values()
    check_protocol(protocol)


def test_the_protocol_opens_both_operands_of_a_product_once() -> None:
    (protocol,) = registry.collect([written(PROTOCOL)], Protocol, "protocol").values()
    price = protocol.price("mul", [(3, 5), (3, 5)])
    assert (price.online.rounds, price.online.bytes) == (1, 2 * 8 * 30)
    linear = protocol.price("linear", [(4, 8), (5, 8), (5,)], ("secret", "weights", "weights"))
    assert (linear.online.bytes, linear.setup.bytes) == (2 * 8 * 32, 8 * 40)


def test_the_engine_computes_what_the_emulation_computes(made: Optimized) -> None:
    """To what a unit at each truncation, 2^-14 or less, becomes on the way to the output, and the noise there."""
    x = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(1))
    (output,) = written(ENGINE).run(made.program, x)
    allowed = 100 * 2**-14 + FLOOD_REACH * made.program.flood[0]
    torch.testing.assert_close(output, made.executable().emulate(x), atol=allowed, rtol=0)
