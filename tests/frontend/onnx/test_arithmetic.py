"""Elementwise operators, activations and reductions in all variants equal onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.models.onnx_build import MICROSOFT, Case, agree, case, f, i, model, weights, x

BINARY = [
    case(kind, first, second)
    for kind in ("Add", "Sub", "Mul", "Div")
    for first, second in (
        (x(2, 3), x(2, 3, low=0.5)),
        (x(2, 3), f(0.25)),
        (f(0.25), x(2, 3, low=0.5)),
        (np.float32(3), x(2, 3, low=0.5)),
        (x(2, 1, 3), weights(4, 1)),
        (weights(4, 1), x(2, 1, 3, low=0.5)),
        (x(3, low=1), f(0.25).reshape(1, 1, 1)),
        (f(0.25).reshape(1, 1, 1), x(3, low=1)),
    )
]

ARITHMETIC = [
    *(case("Pow", x(2, 3, low=0.1), f(e)) for e in (0.5, -0.5, -1, 1, 2, 3, 1.5, -1.5, -2, 0, 0.3)),
    case("Pow", x(2, 3, low=0.1), np.int64(2)),
    case("Pow", x(2, 3, low=0.1), x(2, 3)),
    case("Mod", x(2, 3), x(2, 3, low=0.5), fmod=1),
    case("Max", x(2, 3), np.float32(0.5)),
    case("Max", np.float32(0.5), x(2, 3)),
    case("Max", x(2, 3), x(3), x(1)),
    case("Min", x(2, 3), x(2, 3), f(0.1)),
    case("Min", x(2, 3)),
    case("Sum", x(2, 3), x(3), f(1.0)),
    case("Mean", x(2, 3), x(2, 3), x(3)),
    *(case(kind, x(2, 3)) for kind in ("Neg", "Abs", "Exp", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Erf")),
    *(case(kind, x(2, 3)) for kind in ("Floor", "Ceil", "Round", "Sign")),
    *(case(kind, x(2, 3, low=0.1)) for kind in ("Sqrt", "Log", "Reciprocal")),
    *(case("Clip", x(2, 3), *bounds, opset=opset) for opset in (11, 13) for bounds in (
        (f(-1).reshape(()), f(1).reshape(())), (None, f(1).reshape(())), (f(0).reshape(()),), (),
    )),
    case("Clip", x(2, 3), opset=7, min=-1.0, max=0.5),
    case("Clip", x(2, 3), opset=7, min=0.0),
    case("Clip", x(2, 3), f(0).reshape(()), f(3.4028234663852886e38).reshape(())),
]  # fmt: skip

ACTIVATIONS = [
    *(case(kind, x(2, 3, low=-4, high=4)) for kind in ("Relu", "Sigmoid", "Tanh", "HardSwish", "Softplus")),
    *(case(kind, x(2, 3)) for kind in ("Softsign", "LeakyRelu", "Elu", "Celu", "Selu", "ThresholdedRelu", "Dropout")),
    case("Mish", x(2, 3), opset=18),
    case("Swish", x(2, 3), opset=24),
    case("Swish", x(2, 3), opset=24, alpha=0.5),
    case("HardSigmoid", x(2, 3, low=-4, high=4), alpha=1 / 6, beta=0.5),
    case("HardSigmoid", x(2, 3, low=-4, high=4), alpha=0.3, beta=0.4),
    case("LeakyRelu", x(2, 3), alpha=0.2),
    case("Elu", x(2, 3), alpha=0.7),
    case("Celu", x(2, 3), alpha=2.0),
    case("Selu", x(2, 3), alpha=1.5, gamma=0.9),
    case("ThresholdedRelu", x(2, 3), alpha=0.5),
    case("PRelu", x(2, 3, 4, 4), weights(3, 1, 1)),
    case("PRelu", x(2, 3), f(0.2)),
    case("Gelu", x(2, 3), opset=20),
    case("Gelu", x(2, 3), opset=20, approximate="tanh"),
    case("Gelu", x(2, 3), domain=MICROSOFT),
    case("FastGelu", x(2, 3), domain=MICROSOFT),
    case("FastGelu", x(2, 3), weights(3), domain=MICROSOFT),
    case("BiasGelu", x(2, 3), weights(3), domain=MICROSOFT),
    case("QuickGelu", x(2, 3), domain=MICROSOFT, alpha=1.702),
    case("QuickGelu", x(2, 3), domain=MICROSOFT, alpha=1.0),
    *(case(kind, x(2, 3, 4), opset=opset, **axis) for kind in ("Softmax", "LogSoftmax") for opset in (11, 13)
      for axis in ({}, {"axis": 1}, {"axis": -1}, {"axis": 0}, {"axis": 2})),
]  # fmt: skip

REDUCTIONS = [
    *(
        case(f"Reduce{kind}", x(2, 3, 4, low=0.2), opset=13 if kind == "Sum" else 18, **keep)
        for kind in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")
        for keep in ({}, {"keepdims": 0})
    ),
    *(case(f"Reduce{kind}", x(2, 3, 4), i(-1), opset=18, keepdims=0) for kind in ("Sum", "Mean", "Max", "Min", "L2")),
    *(case(f"Reduce{kind}", x(2, 3, 4), i(0, 2), opset=18) for kind in ("Sum", "Mean", "Max", "Min", "Prod", "L1")),
    *(case(f"Reduce{kind}", x(2, 3, 4), axes=[1, -1]) for kind in ("Mean", "Max", "L2", "SumSquare")),
    case("ReduceSum", x(2, 3, 4), axes=[1], opset=11),
    case("ReduceSum", x(2, 3), i(), noop_with_empty_axes=1),
    case("ReduceSum", x(2, 3), i()),
    case("ReduceSum", x(2, 3), i(1), noop_with_empty_axes=0),
    case("ReduceSum", x(2, 3), i(1), noop_with_empty_axes=1),
    case("ReduceMean", x(2, 3), noop_with_empty_axes=1, opset=18),
    case("LpNormalization", x(2, 3), axis=-1),
    case("LpNormalization", x(2, 3), axis=0, p=1),
    case("MeanVarianceNormalization", x(2, 3, 4, 4), opset=13),
    case("ArgMax", x(2, 3, 4), axis=1),
    case("ArgMax", x(2, 3, 4), axis=-1, keepdims=0),
    case("ArgMin", x(2, 3, 4), axis=1),
    case("CumSum", x(2, 3, 4), np.int64(1)),
    case("CumSum", x(2, 3, 4), i(-1), exclusive=1),
    case("CumSum", x(2, 3, 4), np.int64(1), reverse=1),
    case("CumSum", x(2, 3, 4), np.int64(0), exclusive=1, reverse=1),
]


@pytest.mark.parametrize("one", [*BINARY, *ARITHMETIC, *ACTIVATIONS, *REDUCTIONS])
def test_operator(one: Case) -> None:
    agree(one.model(), one.arrays())


@pytest.mark.parametrize("kind", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_comparison_chooses_by_where(kind: str) -> None:
    nodes = [helper.make_node(kind, ["a", "b"], ["c"]), helper.make_node("Where", ["c", "a", "b"], ["y"])]
    proto = model(nodes, {"a": [2, 3], "b": [2, 3]}, ["y"])
    rows = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    agree(proto, [rows, rows[:, ::-1].copy()])


@pytest.mark.parametrize("kind", ["And", "Or", "Xor"])
def test_logic_of_known_values_folds(kind: str) -> None:
    nodes = [
        helper.make_node(kind, ["p", "q"], ["r"]),
        helper.make_node("Not", ["r"], ["s"]),
        helper.make_node("Where", ["s", "a", "b"], ["y"]),
    ]
    known = {"p": np.array([True, True, False, False]), "q": np.array([True, False, True, False])}
    agree(model(nodes, {"a": [4], "b": [4]}, ["y"], known), [weights(4), weights(4, seed=8)])


@pytest.mark.parametrize("values", [(7, 2), (-7, 2), (7, -2), (-7, -2)])
def test_integers_divide_towards_zero(values: tuple[int, int]) -> None:
    nodes = [
        helper.make_node("Div", ["p", "q"], ["d"]),
        helper.make_node("Mod", ["p", "q"], ["m"]),
        helper.make_node("Cast", ["d"], ["df"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["m"], ["mf"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["a", "df"], ["s"]),
        helper.make_node("Add", ["s", "mf"], ["y"]),
    ]
    agree(model(nodes, {"a": [3]}, ["y"], {"p": i(values[0]), "q": i(values[1])}), [weights(3)])


def test_a_guarded_softmax_is_a_softmax() -> None:
    """Exporters write Where(IsNaN(s), 0, s): one softmax remains."""
    nodes = [
        helper.make_node("Softmax", ["a"], ["s"], axis=-1),
        helper.make_node("IsNaN", ["s"], ["n"]),
        helper.make_node("Where", ["n", "zero", "s"], ["y"]),
    ]
    agree(model(nodes, {"a": [2, 3]}, ["y"], {"zero": np.float32(0)}), [weights(2, 3)])


@pytest.mark.parametrize("to", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64])
def test_casts_of_known_numbers_fold(to: int) -> None:
    nodes = [
        helper.make_node("Cast", ["k"], ["c"], to=to),
        helper.make_node("Cast", ["c"], ["d"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["a", "d"], ["y"]),
    ]
    agree(model(nodes, {"a": [2, 3]}, ["y"], {"k": f(2.75)}), [weights(2, 3)])


def test_a_cast_there_and_back_is_nothing() -> None:
    nodes = [
        helper.make_node("Cast", ["a"], ["c"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    agree(model(nodes, {"a": [2, 3]}, ["y"]), [weights(2, 3)])


@pytest.mark.parametrize("which", [{"detect_positive": 0}, {"detect_negative": 0}, {}])
def test_infinities_are_found(which: dict[str, int]) -> None:
    nodes = [
        helper.make_node("IsInf", ["k"], ["c"], **which),
        helper.make_node("Where", ["c", "a", "b"], ["y"]),
    ]
    known = {"k": f(np.inf, -np.inf, 1)}
    agree(model(nodes, {"a": [3], "b": [3]}, ["y"], known), [weights(3), weights(3, seed=8)])
