"""Products of products keep their bits: what waits is cut meanwhile, and attention without softmax is exact to 2^-8."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn

from mpcc.calibration.ranges import record_ranges
from mpcc.ir import mpc
from mpcc.ir.trace import Recorder
from mpcc.lowering import Settings, lower
from mpcc.runtime.engine.emulate import Emulator

aten = torch.ops.aten
TOKENS, DIM = 12, 8


def attention(x, q, k, v, p):  # type: ignore[no-untyped-def]
    """q (k^T v) / N, then a layer."""
    queries, keys, values = mpc.linear(x, q), aten.permute.default(mpc.linear(x, k), [0, 2, 1]), mpc.linear(x, v)
    return mpc.linear(mpc.scale(mpc.matmul(queries, mpc.matmul(keys, values)), 1 / TOKENS), p)


def relu_attention(x, q, k, v, p):  # type: ignore[no-untyped-def]
    """relu(q k^T) v / N, then a layer."""
    queries, keys, values = mpc.linear(x, q), aten.permute.default(mpc.linear(x, k), [0, 2, 1]), mpc.linear(x, v)
    return mpc.linear(mpc.matmul(mpc.scale(mpc.relu(mpc.scale(mpc.matmul(queries, keys), 0.5)), 1 / TOKENS), values), p)


def made(function, **weights: Tensor) -> tuple[fx.GraphModule, Tensor]:  # type: ignore[no-untyped-def]
    graph, root = fx.Graph(), nn.Module()
    nodes = [graph.placeholder("x")]
    nodes[0].meta["val"] = torch.empty(1, TOKENS, DIM, device="meta")
    for name, value in weights.items():
        root.register_buffer(name, value)
        nodes.append(graph.get_attr(name))
        nodes[-1].meta["val"] = torch.empty(value.shape, device="meta")
    graph.output(Recorder(graph, {"layer": "layer", "made_by": ()}).call(function, *nodes))
    module = fx.GraphModule(root, graph)
    inputs = torch.randn(16, TOKENS, DIM)
    record_ranges(module, inputs)
    return module, inputs[:1]


@pytest.mark.parametrize("budget", [1e-6, 0.0], ids=["local cuts", "cuts through openings"])
@pytest.mark.parametrize("function", [attention, relu_attention])
def test_a_chain_of_products_keeps_its_bits(function, budget: float) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    module, x = made(function, **{name: torch.randn(DIM, DIM) / 3 for name in "qkvp"})
    found = Emulator(lower(module, Settings(failure_budget=budget)))(x)[0]
    expected = module(x)
    assert (found - expected).abs().max() <= 2**-8 * expected.abs().max()


def test_a_chain_costs_no_round_where_it_may_be_cut_locally() -> None:
    torch.manual_seed(0)
    module, _ = made(attention, **{name: torch.randn(DIM, DIM) / 3 for name in "qkvp"})
    assert lower(module).cost.rounds == 5  # x; q, k, v; q and k^T v; what the last layer reads; the output
    assert lower(module, Settings(failure_budget=0.0)).cost.rounds > 5
