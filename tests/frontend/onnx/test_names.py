"""Layers and parameter names: what exporters leave is turned back into the checkpoint's names."""

from __future__ import annotations

import pytest
from onnx import NodeProto, helper

from mpcc.frontend.onnx import import_graph
from mpcc.frontend.onnx.names import is_checkpoint_name, of_path, own_layer, parameter_name
from tests.models.onnx_build import agree, model, weights


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("/blocks/blocks.0/attn/MatMul_1", "blocks.0.attn"),
        ("/vit/encoder/layer.0/attention/attention/query/MatMul", "vit.encoder.layer.0.attention.attention.query"),
        ("/layers/layers.1/blocks/blocks.0/attn/Softmax", "layers.1.blocks.0.attn"),
        ("/blocks.0/attn/MatMul/MatMulAddFusion/", "blocks.0.attn"),
        ("/blocks.0/norm1/LayerNormalization_token_12", "blocks.0.norm1"),
        ("/blocks.0/attn/Constant_3_output_0", "blocks.0.attn"),
        ("vit/encoder/layer_0/attention/MatMul:0", "vit.encoder.layer_0.attention"),
        ("/Add", ""),
        ("node_MatMul_60", None),
        ("", None),
    ],
)
def test_a_path_is_a_layer(name: str, layer: str | None) -> None:
    assert of_path(name) == layer


def with_properties(**properties: str) -> NodeProto:
    node = helper.make_node("MatMul", ["a", "b"], ["c"], name="node_MatMul_60")
    for key, value in properties.items():
        node.metadata_props.add(key=key.replace("__", "."), value=value)
    return node


@pytest.mark.parametrize(
    ("properties", "layer"),
    [
        ({"pkg__torch__onnx__name_scopes": "['', 'blocks', 'blocks.0', 'blocks.0.attn', 'matmul']"}, "blocks.0.attn"),
        ({"pkg__torch__onnx__name_scopes": "['', 'matmul']"}, ""),
        ({"pkg__torch__onnx__name_scopes": "__import__('os')"}, None),
        ({"namespace": ": timm.ViT/blocks.0: timm.Block/blocks.0.attn: timm.Attention/matmul: aten.matmul.default"},
         "blocks.0.attn"),
        ({}, None),
    ],
)  # fmt: skip
def test_properties_are_a_layer(properties: dict[str, str], layer: str | None) -> None:
    assert own_layer(with_properties(**properties)) == layer


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("blocks.0.attn.qkv.weight", "blocks.0.attn.qkv.weight"),
        ("cls_token", "cls_token"),
        ("linear_0.w_0", "linear_0.w_0"),
        ("vit/encoder/layer_0/kernel:0", "vit.encoder.layer_0.kernel"),
        ("onnx::MatMul_1098", None),
        ("val_57", None),
        ("expand", None),
        ("view_3", None),
        ("/blocks.0/attn/Constant_output_0", None),
        ("1234", None),
    ],
)
def test_a_made_up_name_is_no_checkpoint_name(name: str, kept: str | None) -> None:
    assert parameter_name(name) == kept
    assert is_checkpoint_name(name) == (kept == name)


def block(prefix: str = "blocks.0.attn") -> list[NodeProto]:
    """Two products around a softmax, as files look whose node names are lost."""
    return [
        helper.make_node("MatMul", ["x", f"{prefix}.qkv.weight"], ["a"]),
        helper.make_node("Softmax", ["a"], ["s"], axis=-1),
        helper.make_node("MatMul", ["s", f"{prefix}.proj.weight"], ["y"]),
    ]


def test_a_nameless_node_lies_between_its_neighbours() -> None:
    known = {"blocks.0.attn.qkv.weight": weights(4, 4), "blocks.0.attn.proj.weight": weights(4, 4)}
    graph = import_graph(model(block(), {"x": [2, 4]}, ["y"], known))
    layers = [node.meta["layer"] for node in graph.graph.nodes if node.op == "call_function"]
    assert layers == ["blocks.0.attn.qkv", "blocks.0.attn", "blocks.0.attn.proj"]


def test_a_made_up_weight_is_named_by_its_reader() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "onnx::MatMul_7"], ["a"], name="/blocks.0/attn/qkv/MatMul"),
        helper.make_node("Add", ["val_3", "a"], ["b"], name="/blocks.0/attn/qkv/Add"),
        helper.make_node("Mul", ["b", "onnx::Mul_9"], ["y"], name="/blocks.0/ls1/Mul"),
    ]
    known = {"onnx::MatMul_7": weights(4, 6), "val_3": weights(6), "onnx::Mul_9": weights(6)}
    graph = import_graph(model(nodes, {"x": [2, 4]}, ["y"], known))
    shapes = {name: tuple(value.shape) for name, value in graph.named_parameters()}
    assert shapes == {"blocks.0.attn.qkv.weight": (6, 4), "blocks.0.attn.qkv.bias": (6,), "blocks.0.ls1.scale": (6,)}


def test_a_weight_that_two_layers_read_both_ways_keeps_its_form() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "tied.weight"], ["a"]),
        helper.make_node("Gemm", ["a", "tied.weight"], ["y"], transB=1),
    ]
    graph = import_graph(model(nodes, {"x": [2, 4]}, ["y"], {"tied.weight": weights(4, 6)}))
    assert [tuple(value.shape) for value in graph.parameters()] == [(4, 6)]


@pytest.mark.parametrize(("producer", "shape"), [("pytorch", (4, 6)), ("paddle", (6, 4))])
def test_a_named_matrix_keeps_the_shape_of_torchs_checkpoint(producer: str, shape: tuple[int, int]) -> None:
    """`x @ self.weight` in torch; a linear layer of another framework."""
    proto = model(
        [helper.make_node("MatMul", ["x", "own.weight"], ["y"])], {"x": [2, 4]}, ["y"], {"own.weight": weights(4, 6)}
    )
    proto.producer_name = producer
    assert [tuple(value.shape) for value in import_graph(proto).parameters()] == [shape]
    agree(proto, [weights(2, 4)])


def test_equal_weights_behind_identity_get_their_own_names() -> None:
    """The older exporter merges equal initialisers and writes Identity with the checkpoint's name."""
    nodes = [
        helper.make_node("Identity", ["blocks.0.norm.weight"], ["blocks.1.norm.weight"]),
        helper.make_node("Mul", ["x", "blocks.0.norm.weight"], ["a"]),
        helper.make_node("Mul", ["a", "blocks.1.norm.weight"], ["y"]),
    ]
    graph = import_graph(model(nodes, {"x": [2, 4]}, ["y"], {"blocks.0.norm.weight": weights(4)}))
    first, second = graph.parameters()
    assert {name for name, _ in graph.named_parameters()} == {"blocks.0.norm.weight", "blocks.1.norm.weight"}
    assert first.data_ptr() != second.data_ptr()


def test_names_that_python_uses_get_an_underscore() -> None:
    nodes = [helper.make_node("Mul", ["x", "training"], ["a"]), helper.make_node("Add", ["a", "graph.code"], ["y"])]
    graph = import_graph(model(nodes, {"x": [2, 4]}, ["y"], {"training": weights(4), "graph.code": weights(4)}))
    assert {name for name, _ in graph.named_parameters()} == {"training_", "graph_.code"}


def test_batch_norm_statistics_are_buffers() -> None:
    known = {f"bn.{name}": abs(weights(3)) for name in ("weight", "bias", "running_mean", "running_var")}
    node = helper.make_node("BatchNormalization", ["x", *known], ["y"])
    graph = import_graph(model([node], {"x": [1, 3, 2, 2]}, ["y"], known))
    assert {name for name, _ in graph.named_parameters()} == {"bn.weight", "bn.bias"}
    assert {name for name, _ in graph.named_buffers()} == {"bn.running_mean", "bn.running_var"}
