"""Operators that are spelt out: by ONNX's own definitions, over their steps, or as products with known matrices.

The reference is onnxruntime, and onnx's own evaluator for the newest opset, which onnxruntime does not know.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from mpcc import capture
from mpcc.errors import ModelFileError, UnsupportedOperator
from tests.models.onnx_build import f, i, model, run_onnxruntime, weights, x

NEW = 26


def equal(kind: str, *inputs: Any, opset: int = 20, outputs: int = 1, wanted: int | None = None, **attributes: Any) -> None:
    """The first input is secret; `wanted` is the only output that is read."""
    secret = inputs[0].value(3)
    names = ["x", *("" if item is None else f"in{place}" for place, item in enumerate(inputs[1:]))]
    stored = {f"in{place}": np.asarray(item) for place, item in enumerate(inputs[1:]) if item is not None}
    results = [f"y{place}" if wanted in (None, place) else "" for place in range(outputs)]
    node = helper.make_node(kind, names, results, name="/layer/node", **attributes)
    proto = model([node], {"x": list(secret.shape)}, [name for name in results if name], stored, opset)
    newest = opset == NEW
    expected = ReferenceEvaluator(proto).run(None, {"x": secret}) if newest else run_onnxruntime(proto, [secret])
    found = capture(proto)(torch.from_numpy(secret))
    for mine, theirs in zip([found] if isinstance(found, torch.Tensor) else found, expected, strict=True):
        torch.testing.assert_close(mine.detach(), torch.from_numpy(np.array(theirs)).float(), rtol=1e-4, atol=1e-4)


KEYS = weights(1, 2, 5, 8), weights(1, 2, 5, 8, seed=8)


@pytest.mark.parametrize(
    ("inputs", "attributes"),
    [
        (KEYS, {"left_window_size": 1, "right_window_size": 0}),
        ((*KEYS, np.tri(4, 8, dtype=bool), weights(1, 2, 3, 8), weights(1, 2, 3, 8, seed=9)), {}),
        ((*KEYS, np.where(np.tri(4, 5), 0, -np.inf).astype(np.float32)), {"softcap": 2.0}),
    ],
)
def test_attention_beyond_its_reader(inputs: tuple[Any, ...], attributes: dict[str, Any]) -> None:
    equal("Attention", x(1, 2, 4, 8), *inputs, opset=NEW, outputs=3 if len(inputs) > 3 else 1, **attributes)


@pytest.mark.parametrize(("shape", "axis"), [([3], 1), ([3, 2], 1), ([2], None), ([2, 2], 2)])
def test_a_file_of_an_old_opset_is_converted(shape: list[int], axis: int | None) -> None:
    """Before opset 7 attributes said how a bias is broadcast."""
    attributes = {} if axis is None else {"axis": axis}
    nodes = [helper.make_node("Add", ["x", "b"], ["s"], broadcast=1, **attributes), helper.make_node("Relu", ["s"], ["y"])]
    bias = weights(*shape)
    sizes = [1, 3, 2, 2]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in (("x", sizes), ("b", shape))]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, sizes)
    graph = helper.make_graph(nodes, "old", inputs, [result], [numpy_helper.from_array(bias, "b")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 6)], ir_version=3)
    image = torch.randn(sizes)
    wide = torch.from_numpy(bias).reshape([*shape, *[1] * (4 - (4 - len(shape) if axis is None else axis) - len(shape))])
    torch.testing.assert_close(capture(proto)(image).detach(), torch.relu(image + wide))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("kind", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_recurrent_layers(kind: str, gates: int, direction: str) -> None:
    ways = 2 if direction == "bidirectional" else 1
    parts = weights(ways, gates * 4, 3), weights(ways, gates * 4, 4), weights(ways, gates * 8)
    equal(kind, x(5, 2, 3), *parts, hidden_size=4, direction=direction, outputs=2)


def test_sequences_of_different_length() -> None:
    parts = weights(1, 12, 3), weights(1, 12, 4), weights(1, 24)
    lengths = np.array([5, 2], np.int32)
    secret = x(5, 2, 3).value(3)
    node = helper.make_node("GRU", ["x", "w", "r", "b", "n"], ["y", "h"], hidden_size=4, linear_before_reset=1)
    stored = dict(zip("wrbn", (*parts, lengths), strict=True))
    y, h = capture(model([node], {"x": [5, 2, 3]}, ["y", "h"], stored))(torch.from_numpy(secret))
    torch.testing.assert_close(h[0, 0], y[4, 0, 0])
    torch.testing.assert_close(h[0, 1], y[1, 0, 1])
    assert not y[2:, 0, 1].any()


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes"),
    [
        ("DFT", (x(2, 6, 1), np.array(8), np.array(1)), {"onesided": 1}),
        ("DFT", (x(2, 6, 2), None, np.array(-2)), {"inverse": 1}),
        ("STFT", (x(1, 12, 1), np.array(3), f(0.5, 1, 1, 0.5), np.array(4)), {}),
        ("GridSample", (x(1, 2, 4, 5), 2.4 * np.random.default_rng(0).random((1, 3, 3, 2), dtype=np.float32) - 1.2), {}),
        ("GridSample", (x(1, 2, 4, 5), 0.7 * weights(1, 3, 3, 2)), {"mode": "cubic", "padding_mode": "border"}),
        ("LpPool", (x(1, 2, 7),), {"kernel_shape": [3], "p": 3, "strides": [2]}),
        ("MaxPool", (x(1, 2, 4, 4, 4),), {"kernel_shape": [2, 2, 2], "pads": [1, 0, 0, 0, 0, 1]}),
        ("AveragePool", (x(1, 2, 7, 6),), {"kernel_shape": [2, 2], "dilations": [2, 3], "ceil_mode": 1}),
        ("CumProd", (x(3, 4), np.array(1)), {"exclusive": 1, "reverse": 1}),
        ("ReverseSequence", (x(4, 3), i(1, 4, 2)), {"time_axis": 0, "batch_axis": 1}),
        ("Compress", (x(3, 4), np.array([True, False, True])), {"axis": 0}),
        ("ScatterElements", (x(3, 3), i([0, 0, 2]), f([1.5, 2, 3])), {"reduction": "mul", "axis": 1}),
        ("ScatterND", (x(4, 2), i([1], [1], [3]), weights(3, 2)), {"reduction": "max"}),
        ("CenterCropPad", (x(5, 4), i(3, 6)), {}),
        ("ReduceProd", (x(2, 5),), {"axes": [1]}),
    ],
)
def test_spelt_out(kind: str, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> None:
    equal(kind, *inputs, opset=NEW if kind == "CumProd" else 17 if kind == "ReduceProd" else 20, **attributes)


def test_scan() -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "now"], ["t"]), helper.make_node("Mul", ["t", "t"], ["out"])],
        "body",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("s", "now")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("t", "out")],
    )
    node = helper.make_node(
        "Scan", ["zero", "x"], ["last", "all"], num_scan_inputs=1, body=body, scan_input_directions=[1], scan_output_axes=[1]
    )  # fmt: skip
    secret = x(4, 2).value(1)
    proto = model([node], {"x": [4, 2]}, ["last", "all"], {"zero": np.zeros(2, np.float32)})
    last, every = capture(proto)(torch.from_numpy(secret))
    sums = torch.from_numpy(np.cumsum(secret[::-1], 0))
    torch.testing.assert_close(last.detach(), sums[-1])
    torch.testing.assert_close(every.detach(), sums.square().T)


def test_what_is_random_has_no_body() -> None:
    node = helper.make_node("Bernoulli", ["x"], ["y"], name="/drop/Bernoulli")
    with pytest.raises(UnsupportedOperator, match="Bernoulli"):
        capture(model([node], {"x": [2, 2]}, ["y"]))


def test_a_newer_opset_than_the_pinned_one_is_refused() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    with pytest.raises(ModelFileError, match=f"opset {onnx.defs.onnx_opset_version() + 2}"):
        capture(model([node], {"x": [1]}, ["y"], opset=onnx.defs.onnx_opset_version() + 2))
