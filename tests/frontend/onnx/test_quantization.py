"""Quantised files by their float meaning, compared with onnxruntime without its own integer kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper

from mpcc.errors import UnsupportedOperator
from mpcc.frontend.onnx import capture_onnx
from tests.models.onnx_build import f, model, weights


def by_onnxruntime(proto: onnx.ModelProto, x: np.ndarray) -> torch.Tensor:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_dequantised_constants_are_weights(axis: int, kind: type) -> None:
    known = {
        "w_q": np.random.default_rng(0).integers(0, 100, (6, 6)).astype(kind),
        "s": np.abs(weights(6)) * 0.01,
        "z": np.arange(6).astype(kind),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w_q", "s", "z"], ["head.weight"], axis=axis),
        helper.make_node("MatMul", ["x", "head.weight"], ["y"]),
    ]
    proto, x = model(nodes, {"x": [2, 6]}, ["y"], known), weights(2, 6, seed=1)
    graph = capture_onnx(proto)
    assert [name for name, _ in graph.named_parameters()] == ["head.weight"]
    assert torch.allclose(graph(torch.from_numpy(x)), by_onnxruntime(proto, x), atol=1e-5)


def quantised_activation(kind: type, zero: int) -> onnx.ModelProto:
    known = {"s": np.float32(0.01), "z": np.array(zero, kind), "w": weights(6, 4)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    return model(nodes, {"x": [2, 6]}, ["y"], known)


@pytest.mark.parametrize(("kind", "zero"), [(np.uint8, 0), (np.uint8, 128), (np.int8, 0), (np.int8, -128)])
def test_quantised_activations_stay_with_a_note(kind: type, zero: int) -> None:
    """A range that ends at 0 clips there: quantisers write a Relu so."""
    proto, x = quantised_activation(kind, zero), np.clip(weights(2, 6, seed=1), -1, 1)
    with pytest.warns(UserWarning, match="own fixed point, without the rounding"):
        graph = capture_onnx(proto)
    assert torch.allclose(graph(torch.from_numpy(x)), by_onnxruntime(proto, x), atol=0.1)
    assert sum("site" in node.meta for node in graph.graph.nodes) == (zero in (0, -128) and (kind, zero) != (np.int8, 0))


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_of_few_bits(bits: int) -> None:
    rows, inner, block = 3, 32, 16
    numbers = np.random.default_rng(0).integers(0, 2**bits, (rows, inner)).astype(np.uint8)
    packed = numbers if bits == 8 else numbers[:, ::2] | numbers[:, 1::2] << 4
    scales = np.abs(weights(rows, inner // block)) * 0.1
    known = {"w": packed.reshape(rows, inner // block, -1), "s": scales.reshape(-1)}
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=inner, N=rows, bits=bits, block_size=block
    )
    proto, x = model([node], {"x": [2, inner]}, ["y"], known), weights(2, inner, seed=1)
    weight = (numbers.astype(np.float32) - 2 ** (bits - 1)) * scales.repeat(block, 1)
    assert torch.allclose(capture_onnx(proto)(torch.from_numpy(x)), torch.from_numpy(x @ weight.T), atol=1e-4)


NARROW = ["INT4", "UINT4", "INT2", "UINT2", "FLOAT8E4M3FN", "FLOAT8E5M2", "FLOAT4E2M1"]


def narrow(kind: str, shape: tuple[int, ...]) -> tuple[onnx.TensorProto, np.ndarray]:
    """An initialiser of few bits a number, and its numbers as onnx itself reads them."""
    drawn = np.random.default_rng(0).integers(0, 4, shape) - (2 if kind.startswith("INT") else 0)
    made = helper.make_tensor("w_q", getattr(onnx.TensorProto, kind), shape, drawn.flatten().tolist())
    return made, drawn.astype(np.float32)


@pytest.mark.parametrize("kind", NARROW)
def test_weights_stored_in_few_bits(kind: str) -> None:
    stored, numbers = narrow(kind, (6, 5))  # an odd count of numbers in a row of bytes
    nodes = [
        helper.make_node("DequantizeLinear", ["w_q", "s"], ["w"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    scale = np.abs(weights(5)) + 0.1
    proto, x = model(nodes, {"x": [2, 6]}, ["y"], {"s": scale}, opset=25), weights(2, 6, seed=1)
    proto.graph.initializer.append(stored)
    assert torch.allclose(capture_onnx(proto)(torch.from_numpy(x)), torch.from_numpy(x @ (numbers * scale)), atol=1e-5)


def test_weights_of_four_bits_in_another_file(tmp_path: Path) -> None:
    """Two numbers a byte: the length of the file is half of what their count says."""
    stored, numbers = narrow("INT4", (128, 70))
    low = numbers.astype(np.int8).reshape(-1) & 15
    stored.ClearField("int32_data")
    stored.raw_data = (low[::2] | low[1::2] << 4).astype(np.uint8).tobytes()
    nodes = [helper.make_node("DequantizeLinear", ["w_q", "s"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    proto, x = model(nodes, {"x": [2, 128]}, ["y"], {"s": np.float32(0.5)}, opset=21), weights(2, 128, seed=1)
    proto.graph.initializer.append(stored)
    onnx.save(proto, tmp_path / "one.onnx")
    onnx.save(proto, tmp_path / "two.onnx", save_as_external_data=True, size_threshold=0, location="two.data")
    for name in ("one.onnx", "two.onnx"):
        found = capture_onnx(tmp_path / name)(torch.from_numpy(x))
        assert torch.allclose(found, torch.from_numpy(x @ numbers * 0.5), atol=1e-3)


@pytest.mark.parametrize("behind", ["nothing", "Transpose"])
def test_constants_that_the_file_quantises_are_weights(behind: str) -> None:
    """As torch's exporter writes them: the rounding is of the weight, so it stays."""
    nodes = [helper.make_node("QuantizeLinear", ["w_f", "s", "z"], ["q"], axis=0)]
    if behind == "Transpose":
        nodes += [helper.make_node("Transpose", ["q"], ["m"], perm=[1, 0])]
    moved, axis = ("m", 1) if behind == "Transpose" else ("q", 0)
    nodes += [helper.make_node("DequantizeLinear", [moved, "s", "z"], ["w"], axis=axis)]
    nodes += [helper.make_node("MatMul", ["x", "w"], ["y"])]
    known = {"w_f": weights(6, 6), "s": np.abs(weights(6, seed=2)) * 0.02 + 0.01, "z": np.arange(6).astype(np.int8)}
    proto, x = model(nodes, {"x": [2, 6]}, ["y"], known), weights(2, 6, seed=1)
    assert torch.allclose(capture_onnx(proto)(torch.from_numpy(x)), by_onnxruntime(proto, x), atol=1e-5)


@pytest.mark.parametrize("grouped", [False, True])
def test_weights_of_few_bits_with_a_bias_and_groups(grouped: bool) -> None:
    rows, inner, block = 3, 40, 16
    numbers = np.random.default_rng(0).integers(0, 16, (rows, 48)).astype(np.uint8)  # the last block is filled up
    groups = np.random.default_rng(1).integers(0, 3, inner).astype(np.int32)
    scales, bias = np.abs(weights(rows, 3)) * 0.1, weights(rows, seed=3)
    known = {"w": (numbers[:, ::2] | numbers[:, 1::2] << 4).reshape(rows, 3, -1), "s": scales.reshape(-1), "b": bias, "g": groups}
    names = ["x", "w", "s", "", "g" if grouped else "", "b"]
    node = helper.make_node("MatMulNBits", names, ["y"], domain="com.microsoft", K=inner, N=rows, bits=4, block_size=block)
    proto, x = model([node], {"x": [2, inner]}, ["y"], known), weights(2, inner, seed=1)
    own = groups if grouped else np.arange(inner) // block
    weight = (numbers[:, :inner].astype(np.float32) - 8) * scales[:, own]
    assert torch.allclose(capture_onnx(proto)(torch.from_numpy(x)), torch.from_numpy(x @ weight.T + bias), atol=1e-4)


def test_integer_kernels_are_refused() -> None:
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    with pytest.raises(UnsupportedOperator, match="quantised"):
        capture_onnx(model([node], {"x": [2]}, ["s"], {"unused": f(1)}))


@pytest.mark.parametrize("behind", ["nothing", "Cast", "other scale"])
def test_numbers_that_stay_quantised_are_refused(behind: str) -> None:
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y" if behind == "nothing" else "q"])]
    if behind == "Cast":
        nodes += [helper.make_node("Cast", ["q"], ["y"], to=1)]
    if behind == "other scale":
        nodes += [helper.make_node("DequantizeLinear", ["q", "t", "z"], ["y"])]
    known = {"s": np.float32(0.01), "t": np.float32(0.02), "z": np.array(3, np.uint8)}
    with pytest.raises(UnsupportedOperator, match="quantised"):
        capture_onnx(model(nodes, {"x": [2, 6]}, ["y"], known))


def test_quantised_numbers_may_be_moved() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("Transpose", ["q"], ["m"], perm=[1, 0]),
        helper.make_node("DequantizeLinear", ["m", "s2", "z"], ["y"]),
    ]
    known = {"s": np.float32(0.01), "s2": np.float32(0.01), "z": np.array(128, np.uint8)}
    proto, x = model(nodes, {"x": [2, 6]}, ["y"], known), weights(2, 6) * 0.1
    with pytest.warns(UserWarning, match="rounding"):
        graph = capture_onnx(proto)
    assert torch.allclose(graph(torch.from_numpy(x)), by_onnxruntime(proto, x), atol=0.01)
