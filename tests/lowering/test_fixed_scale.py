"""An mpc graph with a scale for each value: the same function, values of moderate size, few products with numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from mpcc import registry
from mpcc.calibration.ranges import record_ranges
from mpcc.errors import UnsupportedOperator
from mpcc.ir import mpc
from mpcc.ir.trace import Recorder
from mpcc.lowering.circuits import circuit_of, graph_of
from mpcc.lowering.fixed_scale import scaled
from mpcc.pipeline.steps import mpc_graph, prepare
from mpcc.search.default_plan import default_plan
from tests.models.vit_lite import smooth_image, vit_tiny

WEIGHT = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def graph_of_function(function: Any, x: Tensor) -> fx.GraphModule:
    """A function of x and a weight, with the ranges of a few inputs."""
    root, graph = nn.Module(), fx.Graph()
    root.register_buffer("w", WEIGHT)
    nodes = graph.placeholder("x"), graph.get_attr("w")
    for node, value in zip(nodes, (x, WEIGHT), strict=True):
        node.meta["val"] = torch.empty(value.shape, device="meta")
    graph.output((Recorder(graph, {"layer": "layer"}).call(function, *nodes),))
    made = fx.GraphModule(root, graph)
    record_ranges(made, [(x * factor,) for factor in (1.0, 0.7, -0.9)])
    return made


aten = torch.ops.aten
FUNCTIONS = {
    "large variable": lambda x, w: mpc.polynomial(mpc.scale(x, 4000.0), (1.0, 1e-4, -3e-8, 5e-12)),
    "far from zero": lambda x, w: mpc.polynomial(mpc.add(x, 900.0), (1.0, -2e-3, 1e-6, 3e-9)),
    "tiny values": lambda x, w: mpc.square(mpc.linear(mpc.scale(x, 1e-4), w)),
    "sums of different scales": lambda x, w: mpc.sub(mpc.scale(mpc.square(x), 1e3), mpc.scale(mpc.sum(x, (1,), True), 1e-2)),
    "bits": lambda x, w: mpc.add(mpc.scale(mpc.less(x, 0.3), 700.0), mpc.select(mpc.less(x, -0.2), mpc.scale(x, 1e3))),
    "a bit added": lambda x, w: mpc.sub(mpc.scale(x, 300.0), mpc.less(x, 0.1)),
    "a bit times a value": lambda x, w: mpc.mul(mpc.less(x, 0.1), mpc.scale(x, 50.0)),
    "signs": lambda x, w: mpc.add(mpc.scale(x, -2.0), mpc.mul(mpc.scale(x, -1.0), x)),
    "a weight minus a value": lambda x, w: mpc.sub(mpc.sum(w, (0,)), x),
    "parts": lambda x, w: aten.cat.default([mpc.scale(x, 1e3), mpc.square(x)], 1),
    "positions": lambda x, w: mpc.gather(mpc.mul(x, x), 1, (2, 0)),
    "a public mask": lambda x, w: mpc.apply_mask(mpc.scale(x, 20.0), (1, 4), "a0"),
    "rows": lambda x, w: mpc.scale_rows(mpc.scale(x, 3.0), (1, 4), (1, 2, 3, 4)),
}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_it_is_the_same_function(name: str) -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    source = graph_of_function(FUNCTIONS[name], x)
    made = scaled(source)
    (expected,), (got,) = source(x), made.graph(x / made.inputs["x"])
    torch.testing.assert_close(got * made.outputs[0], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["large variable", "far from zero"])
def test_coefficients_survive_18_fraction_bits(name: str) -> None:
    made = scaled(graph_of_function(FUNCTIONS[name], torch.randn(3, 4, generator=torch.Generator().manual_seed(1))))
    (found,) = [node.args[1] for node in made.graph.graph.nodes if node.target is mpc.polynomial]
    assert all(abs(one) > 2.0**-14 for one in found)  # they were 5e-12 and 3e-9


def test_a_value_that_many_bits_choose_is_multiplied_once() -> None:
    def function(x: Any, w: Any) -> Any:
        chosen = [mpc.select(mpc.less(x, t), mpc.scale(x, 100.0)) for t in (-0.5, 0.0, 0.5)]
        return mpc.add(mpc.square(mpc.scale(x, 30.0)), mpc.add(chosen[0], mpc.add(chosen[1], chosen[2])))

    made = scaled(graph_of_function(function, torch.randn(3, 4, generator=torch.Generator().manual_seed(1))))
    assert len([node for node in made.graph.graph.nodes if node.target is mpc.scale]) <= 2


def test_products_with_numbers_are_joined_past_views_and_on_bits() -> None:
    def function(x: Any, w: Any) -> Any:
        bit = mpc.scale(mpc.scale(mpc.less(x, 0.0), 3.0), 0.5)
        return mpc.add(bit, aten.reshape.default(mpc.scale(aten.reshape.default(mpc.scale(x, 3.0), [12]), 5.0), [3, 4]))

    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    source = graph_of_function(function, x)
    made = scaled(source)
    assert len([node for node in made.graph.graph.nodes if node.target is mpc.scale]) <= 2
    torch.testing.assert_close(made.graph(x / made.inputs["x"])[0] * made.outputs[0], source(x)[0])


def test_copies_are_made_after_what_they_have_in_common() -> None:
    def function(x: Any, w: Any) -> Any:
        wide = aten.expand.default(aten.select.int(x, 0, 0), [3, 4])
        return mpc.polynomial(mpc.square(wide), (0.1, 0.2, 0.3))

    made = scaled(graph_of_function(function, torch.randn(3, 4, generator=torch.Generator().manual_seed(1))))
    assert {node.meta["val"].shape for node in made.graph.graph.nodes if node.target in mpc.PRIMITIVES.values()} == {(4,)}


def test_gates_are_refused() -> None:
    x = torch.randn(3, 4)
    source = graph_of_function(lambda x, w: mpc.curve(x, -8.0, 1.0, ((1.0, 0.5),) * 16), x)
    with pytest.raises(UnsupportedOperator, match="gates"):
        scaled(source)


def test_the_circuit_of_a_vision_transformer_computes_it() -> None:
    model, _ = vit_tiny()
    images = smooth_image(16)
    prepared = prepare(model, (images,), calibration=smooth_image(16, seed=5, batch=64))
    known = {name: one for name, one in registry.approximations().items() if not one.gate}
    graph = mpc_graph(prepared.graph, default_plan(prepared.graph, prepared.statistics, known))
    record_ranges(graph, prepared.inputs)
    made = circuit_of(graph, "aby3")
    with torch.no_grad():
        expected = graph(images)
        (got,) = graph_of(made.circuit, made.weights)(images / made.circuit.inputs[0].scale)
    expected = expected[0] if isinstance(expected, tuple) else expected
    torch.testing.assert_close(got * made.circuit.outputs[0].scale, expected, rtol=1e-3, atol=1e-4)
    assert 16 <= made.circuit.fraction_bits <= 20
