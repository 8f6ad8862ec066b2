"""Range analysis: a model that trips each finding, which names its layer and a remedy; a healthy model trips none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import mpcc
from mpcc.errors import MpccError, RangeError
from mpcc.ir import mpc
from mpcc.ir.trace import Recorder
from mpcc.pipeline import mpc_graph
from mpcc.verify import Finding, findings

ROWS = torch.randn((32, 4, 8), generator=torch.Generator().manual_seed(0))


def traced(function: Callable[..., Any], **weights: Tensor) -> fx.GraphModule:
    """The mpc graph of `function(x, *weights)` at the site `blocks.0.s`."""
    root, graph = nn.Module(), fx.Graph()
    nodes = [graph.placeholder("x")]
    nodes[0].meta["val"] = torch.empty((1, 4, 8), device="meta")
    for name, value in weights.items():
        root.register_buffer(name, value)
        nodes.append(graph.get_attr(name))
        nodes[-1].meta["val"] = torch.empty(value.shape, device="meta")
    graph.output(Recorder(graph, {"site": "blocks.0.s", "layer": "blocks.0"}).call(function, *nodes))
    return fx.GraphModule(root, graph)


def kinds(found: list[Finding]) -> set[str]:
    return {one.kind for one in found}


def run(function: Callable[..., Any], inputs: Tensor = ROWS, **weights: Tensor) -> list[Finding]:
    found = findings(None, traced(function, **weights), inputs[:, None])
    assert all(one.where.startswith("blocks.0.s") and one.remedy and one.what for one in found)
    return found


def test_a_healthy_function_has_none() -> None:
    def gate(x: Tensor, w: Tensor) -> Tensor:
        y = mpc.linear(x, w)
        return mpc.add(mpc.select(mpc.less(y, 0.25), mpc.square(y)), mpc.polynomial(y, (0.1, 0.5, 0.25)))

    assert run(gate, w=torch.randn(8, 8) / 3) == []


def test_overflow() -> None:
    assert "overflow" in kinds(run(lambda x: mpc.scale(x, 1e17)))


def test_a_value_that_is_infinite_is_an_overflow() -> None:
    assert kinds(run(lambda x: mpc.square(mpc.scale(x, 1e30)))) == {"overflow"}


def test_accumulation() -> None:
    found = run(lambda x, w: mpc.linear(mpc.scale(x, 1e13), w), w=torch.randn(8, 8))
    assert "accumulation" in kinds(found)
    assert "accumulation" in kinds(run(lambda x: mpc.matmul(mpc.scale(x, 1e8), mpc.scale(_turned(x), 1e7))))


def _turned(x: Any) -> Any:
    return torch.ops.aten.permute.default(x, [0, 2, 1])


def test_a_constant_that_is_lost() -> None:
    """It would matter: what it is added to comes down to 0. Beside values near 1 it would not."""
    (found,) = run(lambda x: mpc.add(mpc.relu(x), 1e-14))
    assert found.kind == "constant" and "1e-14" in found.what
    assert run(lambda x: mpc.add(mpc.square(x), 1e-14), inputs=ROWS.abs() + 0.5) == []


def test_a_weight_that_quantises_to_nothing() -> None:
    (found,) = run(lambda x, w: mpc.linear(x, w), w=torch.randn(8, 8) * 1e-8)
    assert found.kind == "weight" and "quantises" in found.what


def test_a_polynomial_that_is_steep_beyond_its_range() -> None:
    found = run(lambda x: mpc.polynomial(x, (0.0, 0.1, *[0.0] * 6, 1e-3, *[0.0] * 9, 1e-6)), inputs=ROWS.clamp(-2, 2))
    assert kinds(found) == {"polynomial"} and "just beyond" in found[0].what


def test_a_polynomial_whose_range_is_too_wide() -> None:
    outlier = ROWS * 0.01
    outlier[0, 0, 0] = 100.0
    assert any("too coarse" in one.what for one in run(lambda x: mpc.polynomial(x, (0.0, 1.0, 0.0, 0.0, 1e-9)), outlier))


def test_a_grid_that_values_leave() -> None:
    """Beyond its grid the reference of a spline gate is no number."""
    pieces = tuple((float(place), 1.0) for place in range(-4, 4))
    assert run(lambda x: mpc.curve(x, -4.0, 1.0, pieces), ROWS.clamp(-3.9, 2.9)) == []
    (found,) = run(lambda x: mpc.curve(x, -4.0, 1.0, pieces), ROWS * 3)
    assert found.kind == "overflow" and "NaN" in found.what


def test_a_window_that_is_too_coarse() -> None:
    outlier = ROWS * 0.001
    outlier[0, 0, 0] = 500.0
    (found,) = run(lambda x: mpc.select(mpc.less(x, 0.0), x), outlier)
    assert found.kind == "window" and "steps" in found.what


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Divided(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1.0 / x


def test_a_denominator_without_a_lower_bound_names_the_site() -> None:
    """A row of equal values has variance 0."""
    flat = ROWS.clone()
    flat[3, 1] = 2.0
    model = mpcc.capture(Normed().eval(), (ROWS[:1],))
    made = mpcc.compile(Normed().eval(), (ROWS[:1],), calibration=ROWS)
    graph = mpc_graph(made.module, made.plan)  # type: ignore[union-attr, arg-type]
    (found,) = [one for one in findings(model, graph, flat) if one.kind == "denominator"]
    assert found.where == "norm.layer_norm" and "eps" in found.remedy
    assert "denominator" not in kinds(findings(model, graph, ROWS))


@pytest.mark.parametrize(
    ("model", "error"), [(Divided(), MpccError), (nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), RangeError)]
)
def test_an_unsafe_program_is_refused(model: nn.Module, error: type[MpccError]) -> None:
    """A reciprocal of values around 0; a sum beyond the ring."""
    for parameter in model.parameters():
        parameter.data *= 1e25
    with pytest.raises(error):
        mpcc.compile(model.eval(), (ROWS[:1],), calibration=ROWS)
