"""Files that cannot be read, and files that are read by a documented conversion: a clear error, never a wrong graph."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from mpcc.errors import CaptureError, ModelFileError, MpccError, ShapeError, UnsupportedOperator
from mpcc.frontend.onnx import capture_onnx, import_graph
from tests.models.onnx_build import agree, f, i, model, weights

LARGE = weights(64, 64)


def linear_model(weight: np.ndarray = LARGE, shape: tuple[int | str | None, ...] = (2, 64)) -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "head.weight"], ["y"], name="/head/MatMul")]
    return model(nodes, {"x": shape}, ["y"], {"head.weight": weight})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model().SerializeToString())
    return path


# ------------------------------------------------------------------------------------------------------ the file


def test_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        import_graph(tmp_path / "nothing.onnx")


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"PK\x03\x04" * 100])
def test_the_file_is_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        import_graph(path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_the_file_is_cut_off(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelFileError):
        import_graph(file)


def test_the_checker_fails() -> None:
    broken = model([helper.make_node("Relu", ["x", "x", "x"], ["y"])], {"x": [2]}, ["y"])
    with pytest.raises(ModelFileError, match="checker"):
        import_graph(broken)


@pytest.mark.parametrize("opset", [29, 99])
def test_the_opset_is_out_of_range(opset: int) -> None:
    proto = linear_model()
    proto.opset_import[0].version = opset
    with pytest.raises(ModelFileError, match=f"opset {opset}.*7 to 28"):
        import_graph(proto)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, or a piece missing."""
    start = draw.randrange(len(content))
    if draw.random() < 0.5:
        return content[:start] + content[start + draw.randrange(1, 100) :]
    return content[:start] + draw.randbytes(draw.choice([1, 4])) + content[start + 4 :]


@pytest.mark.parametrize("seed", range(80))
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    """Whatever the damage, no other error escapes."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="/patch/Conv", pads=[1, 1, 1, 1], auto_pad="NOTSET"),
        helper.make_node("Reshape", ["a", "s"], ["b"], name="/patch/Reshape"),
        helper.make_node("Softmax", ["b"], ["y"], name="/head/Softmax", axis=-1),
    ]
    proto = model(nodes, {"x": [1, 2, 3, 3]}, ["y"], {"w": weights(2, 2, 3, 3), "s": i(1, -1)})
    path = tmp_path / "damaged.onnx"
    path.write_bytes(damaged(proto.SerializeToString(), random.Random(seed)))
    with contextlib.suppress(MpccError):
        import_graph(path)


def external(folder: Path, proto: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_weights_in_another_file(tmp_path: Path) -> None:
    path = external(tmp_path, linear_model())
    x = torch.randn(2, 64)
    assert torch.allclose(import_graph(path)(x), x @ torch.from_numpy(LARGE), atol=1e-5)


def test_the_other_file_is_missing(tmp_path: Path) -> None:
    path = external(tmp_path, linear_model())
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelFileError, match="weights.bin is missing.*head.weight"):
        import_graph(path)


def test_the_other_file_is_too_short(tmp_path: Path) -> None:
    path = external(tmp_path, linear_model())
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(ModelFileError, match="ends inside the tensor 'head.weight'"):
        import_graph(path)


def test_the_other_file_is_not_in_the_folder(tmp_path: Path) -> None:
    proto = onnx.load(external(tmp_path, linear_model()), load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = "../../secret"
    with pytest.raises(ModelFileError, match="outside of the model's folder"):
        path = tmp_path / "evil.onnx"
        path.write_bytes(proto.SerializeToString())
        import_graph(path)


def test_a_proto_does_not_say_where_its_other_file_is(tmp_path: Path) -> None:
    proto = onnx.load(external(tmp_path, linear_model()), load_external_data=False)
    with pytest.raises(ModelFileError, match="path of the .onnx file"):
        import_graph(proto)


def test_the_weights_do_not_follow_the_file(file: Path) -> None:
    """Overwriting the file after capture changes nothing."""
    graph = import_graph(file)
    file.write_bytes(b"\0" * file.stat().st_size)
    x = torch.randn(2, 64)
    assert torch.allclose(graph(x), x @ torch.from_numpy(LARGE), atol=1e-5)


def test_weights_as_a_list_of_floats(tmp_path: Path) -> None:
    """float_data instead of raw bytes, large and small."""
    proto = linear_model()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.float_data.extend(LARGE.reshape(-1).tolist())
    x = torch.randn(2, 64)
    assert torch.allclose(import_graph(proto)(x), x @ torch.from_numpy(LARGE), atol=1e-5)


def test_weights_as_constant_nodes() -> None:
    """Paddle's exporter writes all weights so."""
    constant = helper.make_node("Constant", [], ["linear_0.w_0"], value=numpy_helper.from_array(LARGE))
    proto = model([constant, helper.make_node("MatMul", ["x", "linear_0.w_0"], ["y"])], {"x": [2, 64]}, ["y"])
    assert dict(import_graph(proto).named_parameters())["linear_0.w_0"].shape == (64, 64)
    agree(proto, [weights(2, 64)])


def test_a_weight_of_the_wrong_size(file: Path) -> None:
    proto = linear_model()
    proto.graph.initializer[0].dims[0] = 63
    with pytest.raises(ModelFileError, match="has 16384 bytes"):
        import_graph(proto)


# --------------------------------------------------------------------------------------------------- the weights


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_other_floats_become_float32(kind: int) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    proto = model(nodes, {"x": [2, 64]}, ["y"], output_type=kind)
    proto.graph.input[0].type.tensor_type.elem_type = kind
    proto.graph.initializer.append(
        helper.make_tensor("w", kind, LARGE.shape, LARGE.astype(np.float64).reshape(-1).tolist())
    )
    graph = import_graph(proto)
    x = torch.randn(2, 64)
    assert dict(graph.named_parameters())["w"].dtype == graph(x).dtype == torch.float32
    assert torch.allclose(graph(x), x @ torch.from_numpy(LARGE), atol=0.3)


def test_bytes_of_an_image_are_captured_as_floats() -> None:
    """The model's own cast says that the numbers count, not their type."""
    nodes = [helper.make_node("Cast", ["x"], ["c"], to=TensorProto.FLOAT), helper.make_node("Div", ["c", "k"], ["y"])]
    proto = model(nodes, {"x": [2, 4]}, ["y"], {"k": f(255)})
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    pixels = torch.arange(8.0).reshape(2, 4)
    assert torch.allclose(capture_onnx(proto)(pixels), pixels / 255)


def test_weights_that_are_not_numbers() -> None:
    broken = LARGE.copy()
    broken[3, 5] = np.nan
    with pytest.raises(ModelFileError, match="1 weights hold NaN: head.weight"):
        import_graph(linear_model(broken))


def test_infinite_weights_are_masks() -> None:
    mask = np.triu(np.full((4, 4), -np.inf, np.float32), 1)
    nodes = [helper.make_node("Add", ["x", "mask"], ["m"]), helper.make_node("Softmax", ["m"], ["y"], axis=-1)]
    agree(model(nodes, {"x": [4, 4]}, ["y"], {"mask": mask}), [weights(4, 4)])


# ---------------------------------------------------------------------------------------------------- the shapes


def test_the_batch_defaults_to_one() -> None:
    graph = import_graph(linear_model(shape=("batch", 64)))
    assert [tuple(node.meta["val"].shape) for node in graph.graph.nodes if node.op == "placeholder"] == [(1, 64)]


def test_any_other_size_must_be_given() -> None:
    proto = linear_model(shape=("batch", "tokens", 64))
    with pytest.raises(ShapeError) as caught:
        import_graph(proto)
    assert 'input_shapes={"x": (1, 3, 64)}' in str(caught.value) and "--input-shape x=1,3,64" in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"input_shapes": {"x": (2, 5, 64)}},
        {"input_shapes": (2, 5, 64)},
        {"input_shapes": [(2, 5, 64)]},
        {"example_inputs": torch.zeros(2, 5, 64)},
        {"example_inputs": (torch.zeros(2, 5, 64),)},
        {"example_inputs": {"x": torch.zeros(2, 5, 64)}},
    ],
)
def test_shapes_are_given_in_many_ways(given: dict[str, object]) -> None:
    graph = import_graph(linear_model(shape=("batch", "tokens", 64)), **given)
    assert graph(torch.zeros(2, 5, 64)).shape == (2, 5, 64)


@pytest.mark.parametrize("given", [{"z": (2, 64)}, {"x": (2, 63)}, {"x": (2, 64, 1)}, [(2, 64), (1,)]])
def test_shapes_that_do_not_fit(given: object) -> None:
    with pytest.raises(ShapeError):
        import_graph(linear_model(), input_shapes=given)


# ------------------------------------------------------------------------------------------------- the operators


def test_all_missing_operators_at_once() -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["a"], name="/blocks.0/attn/Det"),
        helper.make_node("Strange", ["a"], ["b"], domain="org.example"),
        helper.make_node("Strange", ["b"], ["c"], domain="org.example"),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    proto = model(nodes, {"x": [2, 2]}, ["y"])
    proto.opset_import.append(helper.make_opsetid("org.example", 3))
    with pytest.raises(UnsupportedOperator) as caught:
        import_graph(proto)
    text = str(caught.value)
    assert "Det (domain ai.onnx, opset 17): node /blocks.0/attn/Det in layer blocks.0.attn" in text
    assert "Strange (domain org.example, opset 3): the node that gives b and 1 more" in text


def test_the_runtimes_own_layout() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], domain="com.microsoft.nchwc")
    proto = model([node], {"x": [1, 8, 4, 4]}, ["y"], {"w": weights(8, 8, 1, 1)})
    proto.opset_import.append(helper.make_opsetid("com.microsoft.nchwc", 1))
    with pytest.raises(UnsupportedOperator, match="ORT_ENABLE_EXTENDED"):
        import_graph(proto)


def test_an_unsupported_variant_names_its_node() -> None:
    node = helper.make_node("MaxPool", ["x"], ["y", "places"], name="/pool/MaxPool", kernel_shape=[2, 2])
    with pytest.raises(UnsupportedOperator, match="/pool/MaxPool in layer pool: MaxPool .opset 17.*indices"):
        import_graph(model([node], {"x": [1, 1, 4, 4]}, ["y", "places"]))


@pytest.mark.parametrize("kind", ["Dropout", "BatchNormalization"])
def test_training_mode(kind: str) -> None:
    known = {"r": f(0.5).reshape(()), "t": np.array(True), **{name: f(1, 2, 3) for name in "sbmv"}}
    if kind == "Dropout":
        node = helper.make_node(kind, ["x", "r", "t"], ["y"])
    else:
        node = helper.make_node(kind, ["x", "s", "b", "m", "v"], ["y", "m2", "v2"], training_mode=1)
    with pytest.raises(UnsupportedOperator, match="training mode"):
        import_graph(model([node], {"x": [2, 3]}, ["y"], known))


def test_nodes_in_any_order_are_sorted() -> None:
    """onnxruntime does not mind, and its float16 converter puts casts at the end."""
    nodes = [
        helper.make_node(kind, [i], [o]) for kind, i, o in (("Exp", "b", "c"), ("Neg", "c", "y"), ("Abs", "x", "b"))
    ]
    agree(model(nodes, {"x": [2]}, ["y"]), [weights(2)])


def test_a_cycle_is_an_error() -> None:
    nodes = [helper.make_node("Add", ["x", "y"], ["b"]), helper.make_node("Neg", ["b"], ["y"])]
    with pytest.raises(ModelFileError, match="topologically"):
        import_graph(model(nodes, {"x": [2]}, ["y"]))


def test_an_unknown_form_of_an_operator() -> None:
    node = helper.make_node("FastGelu", ["x", "x", "x", "x"], ["y"], domain="com.microsoft")
    with pytest.raises(UnsupportedOperator, match="a form of it with 4 inputs"):
        import_graph(model([node], {"x": [2]}, ["y"]))


def test_sparse_weights() -> None:
    proto = linear_model()
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("i", TensorProto.INT64, [1], [2]),
        [4],
    )
    proto.graph.sparse_initializer.append(sparse)
    with pytest.raises(ModelFileError, match="sparse"):
        import_graph(proto)


def test_functions_of_the_model_are_inlined() -> None:
    """Exports of torch 2.1 to 2.4 make a function of every module."""
    body = [helper.make_node("MatMul", ["a", "w"], ["h"]), helper.make_node("Softmax", ["h"], ["b"], axis=-1)]
    function = helper.make_function("pkg.vit", "Attn", ["a", "w"], ["b"], body, [helper.make_opsetid("", 17)])
    call = helper.make_node("Attn", ["x", "blocks.0.attn.qkv.weight"], ["y"], domain="pkg.vit")
    proto = model([call], {"x": [2, 4]}, ["y"], {"blocks.0.attn.qkv.weight": weights(4, 4)})
    proto.opset_import.append(helper.make_opsetid("pkg.vit", 1))
    proto.functions.append(function)
    agree(proto, [weights(2, 4)])


@pytest.mark.parametrize("calls", [1, 2])
def test_functions_of_another_opset_are_converted(calls: int) -> None:
    """Axes are an attribute there; onnxruntime does not convert.

    onnx's converter gives one name twice where a function is called twice: refused.
    """
    body = [helper.make_node("Unsqueeze", ["a"], ["u"], axes=[0]), helper.make_node("Mul", ["u", "u"], ["b"])]
    function = helper.make_function("pkg", "Square", ["a"], ["b"], body, [helper.make_opsetid("", 11)])
    names = ["x", *(f"h{i}" for i in range(calls - 1)), "y"]
    nodes = [helper.make_node("Square", names[i : i + 1], names[i + 1 : i + 2], domain="pkg") for i in range(calls)]
    proto = model(nodes, {"x": [2, 4]}, ["y"])
    proto.opset_import.append(helper.make_opsetid("pkg", 1))
    proto.functions.append(function)
    if calls == 1:
        x = torch.from_numpy(weights(2, 4))
        assert torch.allclose(import_graph(proto)(x), x[None] ** 2)
        return
    with pytest.raises(ModelFileError, match=r"the function pkg\.Square is of another opset"):
        import_graph(proto)


def test_a_condition_on_the_input() -> None:
    branches = {
        key: helper.make_graph(
            [helper.make_node(kind, ["x"], ["r"])],
            key,
            [],
            [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
        )
        for key, kind in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], name="/gate/If", **branches),
    ]
    with pytest.raises(CaptureError, match="/gate/If in layer gate: the condition is known only when the model runs"):
        import_graph(model(nodes, {"x": [2]}, ["y"], {"zero": np.float32(0)}))


def test_a_shape_that_does_not_fit_the_file() -> None:
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"], name="/embed/Reshape")]
    proto = model(nodes, {"x": ["batch", 6]}, ["y"], {"s": i(2, 6)})
    with pytest.raises(UnsupportedOperator, match="/embed/Reshape in layer embed.*cannot be reshaped"):
        import_graph(proto)
    assert import_graph(proto, input_shapes={"x": (2, 6)})(torch.zeros(2, 6)).shape == (2, 6)
