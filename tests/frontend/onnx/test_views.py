"""Operators that move elements, in all variants that exporters write, equal onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mpcc.frontend.onnx import capture_onnx
from tests.models.onnx_build import Case, agree, case, f, i, model, run_onnxruntime, weights, x

INT_MAX = 2**63 - 1

RESHAPES = [
    case("Reshape", x(2, 3, 4), i(0, -1)),
    case("Reshape", x(2, 3, 4), i(-1)),
    case("Reshape", x(2, 3, 4), i(0, 0, 2, 2)),
    case("Reshape", x(2, 3, 4), i(4, 6)),
    case("Reshape", x(2, 3, 4), i(4, -1, 3), allowzero=1),
    *(case("Flatten", x(2, 3, 4), axis=axis) for axis in (0, 1, 2, 3, -1)),
    case("Flatten", x(2, 3, 4)),
    case("Squeeze", x(1, 3, 1)),
    case("Squeeze", x(1, 3, 1), i(-1)),
    case("Squeeze", x(1, 3, 1), axes=[0], opset=11),
    case("Squeeze", x(1, 3, 1), opset=11),
    case("Unsqueeze", x(2, 3), i(0, -1)),
    case("Unsqueeze", x(2, 3), i(1, 2)),
    case("Unsqueeze", x(2, 3), axes=[0, 3], opset=11),
    case("Transpose", x(2, 3, 4)),
    case("Transpose", x(2, 3, 4), perm=[1, 2, 0]),
    case("Identity", x(2, 3)),
    case("DepthToSpace", x(1, 8, 2, 3), blocksize=2),
    case("DepthToSpace", x(1, 8, 2, 3), blocksize=2, mode="CRD"),
    case("SpaceToDepth", x(1, 2, 4, 6), blocksize=2),
    case("Col2Im", x(1, 12, 9), i(4, 4), i(2, 2), opset=18),
    case("Col2Im", x(1, 18, 9), i(5, 5), i(3, 3), opset=18, pads=[1, 1, 1, 1], strides=[2, 2]),
    case("Trilu", x(2, 4, 4)),
    case("Trilu", x(2, 4, 4), np.int64(1), upper=0),
    case("Trilu", x(2, 3, 4), np.int64(-1)),
]

JOINS = [
    case("Concat", x(2, 3), x(2, 4), axis=1),
    case("Concat", x(2, 3), weights(2, 3), axis=-2),
    case("Concat", x(2, 3), np.zeros((2, 0), np.float32), axis=1),
    case("Split", x(2, 6), i(2, 4), axis=1, outputs=2),
    case("Split", x(2, 6), axis=-1, outputs=3),
    case("Split", x(2, 6), axis=1, split=[1, 5], outputs=2, opset=11),
    case("Split", x(6, 2), outputs=2, opset=11),
    case("Split", x(2, 7), axis=1, num_outputs=3, outputs=3, opset=18),
    case("Expand", x(2, 1), i(1, 3)),
    case("Expand", x(3, 1), i(2, 1, 4)),
    case("Expand", x(2, 3), i(1)),
    case("Tile", x(2, 3), i(2, 1)),
    case("Tile", x(1, 3), i(3, 2)),
]

SLICES = [
    case("Slice", x(4, 6), i(1), i(3)),
    case("Slice", x(4, 6), i(1), i(INT_MAX), i(1)),
    case("Slice", x(4, 6), i(-3, 0), i(-1, INT_MAX), i(1, 0), i(1, 2)),
    case("Slice", x(4, 6), i(-1), i(-INT_MAX), i(1), i(-1)),
    case("Slice", x(4, 6), i(4), i(0), i(-1), i(-2)),
    case("Slice", x(4, 6), i(0), i(100), i(0)),
    case("Slice", x(4, 6), starts=[1, -3], ends=[3, 2147483647], axes=[0, 1], opset=9),
    case("Slice", x(4, 6), starts=[1], ends=[3], opset=9),
]

PADS = [
    case("Pad", x(2, 3), i(0, 1, 2, 3)),
    case("Pad", x(2, 3), i(1, 1, 0, 0), np.float32(2.5)),
    case("Pad", x(2, 3), i(0, -1, 0, 2)),
    case("Pad", x(2, 3), i(1, 2), None, i(1), opset=18),
    case("Pad", x(2, 3), pads=[1, 0, 0, 1], value=1.5, opset=9),
    *(case("Pad", x(3, 4), i(0, 2, 1, 2), opset=19, mode=mode) for mode in ("reflect", "edge", "wrap")),
]

GATHERS = [
    case("Gather", x(3, 4), np.int64(1)),
    case("Gather", x(3, 4), np.int64(-1), axis=1),
    case("Gather", x(3, 4), i(0, 2)),
    case("Gather", x(3, 4), i(1, 2), axis=-1),
    case("Gather", x(3, 4), i([0, -1], [2, 1]), axis=1),
    case("GatherElements", x(3, 4), i([0, 1, 2, 0], [-1, 0, 1, 2])),
    case("GatherElements", x(3, 4), i([0], [-1], [2]), axis=1),
    case("GatherND", x(3, 4), i([0, 1], [2, -1])),
    case("GatherND", x(3, 4), i([2], [0])),
    case("GatherND", x(2, 3, 4), i([1], [2]), batch_dims=1),
    case("GatherND", x(2, 3, 4), i([[1, 0]], [[2, 3]]), batch_dims=1),
    case("ScatterND", x(4, 3), i([1], [3]), x(2, 3)),
    case("ScatterND", x(4, 3), i([1, 0], [-1, 2]), x(2)),
    case("ScatterND", np.zeros((4, 3), np.float32), i([[0, 0], [0, 1]]), x(1, 2)),
    case("ScatterElements", x(3, 3), i([1, 0, 2]), x(1, 3)),
    case("Scatter", x(3, 3), i([1, 0, 2]), x(1, 3), opset=9),
    case("Trilu", x(2, 4, 4), domain="com.microsoft"),
    case("ScatterElements", x(3, 3), i([1, -1]), x(1, 2), axis=1),
]


@pytest.mark.parametrize("one", [*RESHAPES, *JOINS, *SLICES, *PADS, *GATHERS])
def test_operator(one: Case) -> None:
    agree(one.model(), one.arrays())


@given(
    size=st.integers(1, 6),
    start=st.integers(-8, 8),
    end=st.integers(-8, 8),
    step=st.sampled_from([1, 2, 3, -1, -2]),
)
@settings(max_examples=40, deadline=None)
def test_any_slice_is_numpys(size: int, start: int, end: int, step: int) -> None:
    one = Case("Slice", (x(2, size), i(start), i(end), i(1), i(step)), 17, "", 1)
    if len(range(size)[start:end:step]):
        agree(one.model(), one.arrays())


def test_shape_arithmetic_folds() -> None:
    """Shape, Gather, Concat, Reshape: what a dynamic export leaves around static shapes."""
    nodes = [
        helper.make_node("Shape", ["a"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["batch"]),
        helper.make_node("Unsqueeze", ["batch", "axes"], ["b"]),
        helper.make_node("Concat", ["b", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["a", "target"], ["y"]),
    ]
    known = {"zero": np.int64(0), "axes": i(0), "rest": i(-1, 2)}
    agree(model(nodes, {"a": [2, 3, 4]}, ["y"], known), [weights(2, 3, 4)])


def test_a_part_of_the_shape() -> None:
    """Shape with start and end, Size, ConstantOfShape, Range, EyeLike, NonZero, OneHot: all known."""
    nodes = [
        helper.make_node("Shape", ["a"], ["s"], start=1, end=-1),
        helper.make_node("ConstantOfShape", ["s"], ["c"], value=numpy_helper.from_array(f(1.5))),
        helper.make_node("Range", ["zero", "three", "one"], ["r"]),
        helper.make_node("EyeLike", ["c2"], ["e"], k=1, dtype=TensorProto.FLOAT),
        helper.make_node("OneHot", ["r", "four", "off_on"], ["h"]),
        helper.make_node("NonZero", ["r"], ["n"]),
        helper.make_node("Cast", ["n"], ["nf"], to=TensorProto.FLOAT),
        helper.make_node("Size", ["a"], ["z"]),
        helper.make_node("Cast", ["z"], ["zf"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["h"], ["hs"], keepdims=0),
        helper.make_node("ReduceSum", ["nf"], ["ns"], keepdims=0),
        helper.make_node("Sum", ["c", "hs", "ns", "zf"], ["bias"]),
        helper.make_node("MatMul", ["a", "e"], ["m"]),
        helper.make_node("Add", ["m", "bias"], ["y"]),
    ]
    known = {
        "zero": np.int64(0), "three": np.int64(3), "one": np.int64(1), "four": np.int64(4),
        "off_on": f(0, 2), "c2": np.zeros((4, 3), np.float32),
    }  # fmt: skip
    agree(model(nodes, {"a": [2, 3, 4]}, ["y"], known), [weights(2, 3, 4)])


def test_largest_of_known_numbers() -> None:
    nodes = [
        helper.make_node("TopK", ["k", "two"], ["values", "places"]),
        helper.make_node("Gather", ["a", "places"], ["g"]),
        helper.make_node("Mul", ["g", "values"], ["y"]),
    ]
    agree(model(nodes, {"a": [4]}, ["y"], {"k": f(3, 1, 4, 2), "two": i(2)}), [weights(4)])


@pytest.mark.parametrize("chosen", [True, False])
def test_a_known_condition_chooses_the_branch(chosen: bool) -> None:
    """The `If` that older exporters write for a squeeze; branches read values of the outer graph."""
    shapeless = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
    then = helper.make_graph([helper.make_node("Squeeze", ["a", "axes"], ["r"])], "then", [], shapeless)
    other = helper.make_graph([helper.make_node("Relu", ["a"], ["r"])], "else", [], shapeless)
    nodes = [
        helper.make_node("Shape", ["a"], ["s"]),
        helper.make_node("Gather", ["s", "axes"], ["size"]),
        helper.make_node("Equal", ["size", "one"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    proto = model(nodes, {"a": [1, 3]}, ["y"], {"axes": i(0), "one": i(1 if chosen else 2)})
    agree(proto, [weights(1, 3)])


def test_a_loop_of_known_length_is_unrolled() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["v", "half"], ["w"]),
            helper.make_node("Identity", ["going"], ["go"]),
            helper.make_node("Identity", ["w"], ["each"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("n", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("each", TensorProto.FLOAT, None),
        ],
    )
    nodes = [helper.make_node("Loop", ["three", "yes", "a"], ["y", "all"], body=body)]
    known = {"three": np.int64(3), "yes": np.array(True), "half": np.float32(0.5)}
    agree(model(nodes, {"a": [2]}, ["y", "all"], known), [weights(2)])


def test_an_empty_list_grows() -> None:
    nodes = [
        helper.make_node("SequenceEmpty", [], ["none"]),
        helper.make_node("SequenceInsert", ["none", "a"], ["one"]),
        helper.make_node("SequenceInsert", ["one", "a", "zero"], ["two"]),
        helper.make_node("SequenceLength", ["two"], ["n"]),
        helper.make_node("CastLike", ["n", "a"], ["nf"]),
        helper.make_node("ConcatFromSequence", ["two"], ["both"], axis=0),
        helper.make_node("Mul", ["both", "nf"], ["y"]),
    ]
    agree(model(nodes, {"a": [2, 3]}, ["y"], {"zero": np.int64(0)}), [weights(2, 3)])


def test_lists_of_tensors() -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["a"], ["parts"], axis=1, keepdims=0),
        helper.make_node("SequenceAt", ["parts", "two"], ["part"]),
        helper.make_node("SequenceConstruct", ["part", "part"], ["pair"]),
        helper.make_node("SequenceInsert", ["pair", "part"], ["triple"]),
        helper.make_node("ConcatFromSequence", ["triple"], ["y"], axis=0, new_axis=1),
    ]
    agree(model(nodes, {"a": [2, 3]}, ["y"], {"two": np.int64(2)}), [weights(2, 3)])


@pytest.mark.parametrize("view", ["Transpose", "Unsqueeze", "Reshape"])
def test_bytes_of_images_behind_a_view_are_floats(view: str) -> None:
    """What exports for deployment begin with: uint8 [1, 4, 4, 3], moved, cast, divided by 255."""
    known = {"most": f(255.0)}
    known |= {"Transpose": {}, "Unsqueeze": {"axes": i(0)}, "Reshape": {"shape": i(1, 48)}}[view]
    nodes = [
        helper.make_node(view, ["x", *list(known)[1:]], ["moved"], **({"perm": [0, 3, 1, 2]} if view == "Transpose" else {})),
        helper.make_node("Cast", ["moved"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "most"], ["y"]),
    ]
    proto = model(nodes, {"x": [1, 4, 4, 3]}, ["y"], known)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)).astype(np.uint8)
    (wanted,) = run_onnxruntime(proto, [pixels])
    found = capture_onnx(proto)(torch.from_numpy(pixels).float())
    assert found.shape == wanted.shape and torch.allclose(found, torch.from_numpy(wanted))


@pytest.mark.parametrize(("axis", "off_on"), [(-1, (0, 1)), (1, (0, 1)), (-1, (-2, 3))])
def test_one_hot_of_a_secret_argmax(axis: int, off_on: tuple[int, int]) -> None:
    """As torch's older exporter writes `one_hot(x.argmax(-1))`; of a secret index, too, every element is a comparison."""
    nodes = [
        helper.make_node("ArgMax", ["x"], ["places"], axis=-1, keepdims=0),
        helper.make_node("OneHot", ["places", "count", "values"], ["y"], axis=axis),
    ]
    agree(model(nodes, {"x": [2, 3, 5]}, ["y"], {"count": i(5), "values": f(*off_on)}), [weights(2, 3, 5)])
