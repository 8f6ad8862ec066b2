"""Structural choices in the nn-level graph: the same function as the expansion, trainable, and the same from ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, fx, nn

import mpcc
from mpcc import registry
from mpcc.approximate import Choice, Part, Plan, Split
from mpcc.approximate.expand import expand
from mpcc.frontend.export import export_onnx
from mpcc.ir.nn import sites

CHAIN = {"chain": [[[2.0, -1.0], [1.0, -2.0, 1.0]], [[1.0, 1.0], []]], "floor": 0.1}
RELU, SCALING = Choice("softmax_relu", CHAIN), Choice("softmax_scaling")
SQUARES = Choice("softmax_2quad", {"chain": [[[0.08, -0.001], []]]})
QUAD, SAME, GELU_RELU = Choice("gelu_quad"), Choice("gelu_identity"), Choice("gelu_relu")
HEADS = Split(1, (Part((0, 2), RELU), Part((1, 3), SCALING)))
PLANS = {
    "heads": {"softmax": HEADS, "act.gelu": SAME},
    "whole": {"softmax": SQUARES, "act.gelu": QUAD},
    "queries": {"softmax": Split(-2, (Part((0, 4), SCALING), Part((1, 2, 3), RELU))), "act.gelu": GELU_RELU},
    "tokens": {"softmax": SCALING, "act.gelu": Split(1, (Part((1, 3), SAME), Part((0, 2, 4), QUAD)))},
    "the x": {"softmax": Choice("softmax_the_x", CHAIN), "act.gelu": QUAD},
}


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.fc1, self.act, self.fc2 = nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).reshape(*x.shape[:2], 4, 2).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
        return self.fc2(self.act(self.fc1(x + mixed)))


@pytest.fixture(scope="module")
def graph() -> fx.GraphModule:
    torch.manual_seed(0)
    return mpcc.transform(Model().eval(), (torch.randn(1, 5, 8),))


@pytest.mark.parametrize("name", PLANS)
def test_the_function_is_the_plan_s_and_it_trains(graph: fx.GraphModule, name: str) -> None:
    plan = Plan(PLANS[name])  # type: ignore[arg-type]
    made = mpcc.transform(graph, plan=plan)
    x = torch.randn(1, 5, 8)
    torch.testing.assert_close(made(x), expand(graph, plan, registry.approximations())(x), rtol=1e-5, atol=1e-5)
    made(x).square().sum().backward()
    for parameter, value in made.named_parameters():
        assert value.grad is not None and value.grad.abs().sum() > 0, parameter
    assert dict(made.named_parameters()).keys() == dict(graph.named_parameters()).keys()


@pytest.mark.parametrize("name", ["heads", "queries", "tokens"])
def test_onnxruntime_computes_the_same(graph: fx.GraphModule, name: str, tmp_path: Path) -> None:
    made = mpcc.transform(graph, plan=Plan(PLANS[name]))  # type: ignore[arg-type]
    path = export_onnx(made, tmp_path / "model.onnx")
    x = torch.randn(1, 5, 8)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, made(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_bounded_choices_stay_the_operator(graph: fx.GraphModule) -> None:
    kept = Choice("softmax_max", {})
    plan = Plan({"softmax": Split(1, (Part((0, 1), kept), Part((2, 3), SCALING))), "act.gelu": Choice("gelu_spline")})
    made = mpcc.transform(graph, plan=plan)
    x = torch.randn(1, 5, 8)
    assert sorted(sites(made)) == ["act.gelu", "softmax"]
    assert tuple(sites(made)["softmax"].meta["val"].shape) == (1, 2, 5, 5)
    assert made(x).shape == graph(x).shape
