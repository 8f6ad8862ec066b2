"""Calibration sees what the operators see, whatever the static batch, and the default plan takes accurate candidates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mpcc import registry
from mpcc.approximate import Plan
from mpcc.approximate.expand import expand
from mpcc.approximate.logit_margin import STRETCH
from mpcc.calibration import calibrate, calls
from mpcc.calibration.ranges import record_ranges, summary
from mpcc.errors import RangeError, ShapeError, UnsupportedOperator
from mpcc.frontend import capture
from mpcc.search import default_plan


class Model(nn.Module):
    """Every kind of site that calibration treats in its own way."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.LayerNorm(8)
        self.mix = nn.Linear(8, 8)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:  # [batch, 5, 8]
        y = self.mix(self.norm(x))
        weights = (y @ y.transpose(-1, -2)).softmax(-1)
        return x + self.act(weights @ y)


MODEL = Model().eval()
INPUTS = torch.randn(12, 5, 8, generator=torch.Generator().manual_seed(1)) * 2


@pytest.mark.parametrize("batch", [1, 3])
def test_the_statistics_are_those_of_the_operators_arguments(batch: int) -> None:
    graph = capture(MODEL, (torch.zeros(batch, 5, 8),))
    statistics = calibrate(graph, INPUTS)
    with torch.no_grad():
        variance = INPUTS.var(-1, unbiased=False) + MODEL.norm.eps
        y = MODEL.mix(MODEL.norm(INPUTS))
        logits = y @ y.transpose(-1, -2)
        centred = (logits - logits.mean(-1, keepdim=True)) * STRETCH
    seen = {name.rsplit(".", 1)[-1]: s for name, s in statistics.items()}
    assert seen["layer_norm"].ranges["variance"].low == pytest.approx(variance.min().item(), rel=1e-5)
    assert seen["layer_norm"].ranges["variance"].high == pytest.approx(variance.max().item(), rel=1e-5)
    assert seen["softmax"].ranges["centred"].high == pytest.approx(centred.max().item(), rel=1e-4)
    assert seen["softmax"].ranges["denominator"].low >= 1
    assert seen["softmax"].site.attributes == {"dim": -1} and seen["softmax"].site.shape == (batch, 5, 5)
    assert all(s.calibrated and s.samples["input"].dtype == torch.float64 for s in statistics.values())


def test_synthetic_statistics_say_so_and_so_does_the_plan() -> None:
    graph = capture(MODEL, (torch.zeros(1, 5, 8),))
    statistics = calibrate(graph, INPUTS, synthetic=True)
    assert not any(s.calibrated for s in statistics.values())
    assert default_plan(graph, statistics, registry.approximations()).notes["calibrated"] is False


def test_calls_are_cut_to_the_static_batch_and_a_rest_is_left_out() -> None:
    graph = capture(MODEL, (torch.zeros(5, 5, 8),))
    assert [tuple(x.shape) for (x,) in calls(graph, INPUTS)] == [(5, 5, 8), (5, 5, 8)]
    assert len(calls(graph, [INPUTS[:5], INPUTS[5:10]])) == 2


@pytest.mark.parametrize(
    "inputs", [torch.zeros(12, 5, 9), torch.zeros(0, 5, 8), [], [(torch.zeros(1, 5, 8), torch.zeros(1))], ["x"]]
)
def test_inputs_that_do_not_fit_are_an_error(inputs) -> None:  # type: ignore[no-untyped-def]
    graph = capture(MODEL, (torch.zeros(1, 5, 8),))
    with pytest.raises(ShapeError):
        calibrate(graph, inputs)


def test_infinite_inputs_are_an_error_that_names_the_input() -> None:
    graph = capture(MODEL, (torch.zeros(1, 5, 8),))
    with pytest.raises(RangeError, match="input x: 480 of its 480 numbers are infinite"):
        calibrate(graph, INPUTS / 0)


def test_the_default_plan_is_accurate_and_survives_json() -> None:
    graph = capture(MODEL, (torch.zeros(1, 5, 8),))
    plan = default_plan(graph, calibrate(graph, INPUTS), registry.approximations())
    plan = Plan.from_json(plan.to_json())
    expanded = expand(graph, plan, registry.approximations())
    with torch.no_grad():
        for x in INPUTS:
            assert (expanded(x[None]) - MODEL(x[None])).abs().max() < 0.01


def test_no_approximation_at_a_level_is_an_error_that_names_the_sites() -> None:
    graph = capture(MODEL, (torch.zeros(1, 5, 8),))
    with pytest.raises(UnsupportedOperator, match="softmax"):
        default_plan(graph, calibrate(graph, INPUTS), registry.approximations(), level="exact")


def test_recorded_ranges_hold_the_values_and_wider_logits() -> None:
    graph = capture(MODEL, (torch.zeros(1, 5, 8),))
    statistics = calibrate(graph, INPUTS)
    expanded = expand(graph, default_plan(graph, statistics, registry.approximations()), registry.approximations())
    record_ranges(expanded, INPUTS, stretch=1.0)
    plain = {node.name: node.meta["range"] for node in expanded.graph.nodes if "range" in node.meta}
    record_ranges(expanded, INPUTS)
    wide = {node.name: node.meta["range"] for node in expanded.graph.nodes if "range" in node.meta}
    assert plain["x"].low == INPUTS.min() and plain["x"].high == INPUTS.max()
    assert all(wide[name].low <= r.low and wide[name].high >= r.high for name, r in plain.items())
    softmax = [n.name for n in expanded.graph.nodes if "softmax" in (n.meta.get("site") or "")]
    assert any(wide[name].high > 1.2 * plain[name].high for name in softmax)
    others = [n.name for n in expanded.graph.nodes if "gelu" in (n.meta.get("site") or "")]
    assert all(wide[name] == plain[name] for name in others)


def test_summary_of_any_kind_of_number() -> None:
    """Integers (indices) have a range too; a square that overflows float32 does not make a finite value infinite."""
    assert summary(torch.tensor([[3, -4]])).tolist() == pytest.approx([-4.0, 3.0, 12.5])
    assert summary(torch.tensor([3e30, -4e30])).tolist() == pytest.approx([-4e30, 3e30, 1.6e61])
    assert summary(torch.full((3,), 2.0, dtype=torch.float64)).tolist() == pytest.approx([2.0, 2.0, 4.0])
