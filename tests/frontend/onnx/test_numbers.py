"""Single numbers of a file: those of the architecture become public, trained ones stay weights, whatever their shape and name."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import mpcc
from mpcc.frontend.onnx.numbers import written_down

WRITTEN = [
    0.0, 1.0, -3.0, 0.5, 0.125, 1e-5, 1e-12, 0.485, 255.0, 1 / 255, 65504.0, -3.4028234663852886e38, -math.inf, 1 / 3, 1 / 49,
    math.sqrt(2), math.sqrt(0.5), 1 / math.sqrt(32), 1 / math.sqrt(768), math.sqrt(384), 48**-0.25, 0.044715, 1.702,
    math.sqrt(2 / math.pi), 1 / 6, math.log(10000),
]  # fmt: skip


@pytest.mark.parametrize("value", WRITTEN)
def test_numbers_of_the_architecture(value: float) -> None:
    assert written_down(float(np.float32(value))) and written_down(-float(np.float32(value)))


def test_trained_numbers_are_taken_for_public_once_in_five_hundred() -> None:
    """Uniform over each octave from 1/64 to 64, in float32."""
    generator = np.random.default_rng(0)
    drawn = (2.0 ** generator.integers(-6, 6, 20000) * generator.uniform(1, 2, 20000)).astype(np.float32)
    assert sum(written_down(float(value)) for value in drawn) / len(drawn) < 1 / 500


def test_half_precision_leaves_only_two_digits_and_the_known() -> None:
    assert written_down(float(np.float16(1 / math.sqrt(32))), torch.float16) and written_down(0.5, torch.float16)
    assert not written_down(float(np.float16(1.618)), torch.float16)


TRAINED = {"temperature": 1.618034, "gate": 0.7312, "offset": 0.31871}


def model(path: Path, how: str, numbers: dict[str, float] = TRAINED) -> Path:
    """softmax(t (x W)(x V)^T) x, then times a gate and plus an offset, then a layer; `how` the numbers are stored."""
    generator = np.random.default_rng(0)
    stored = {name: generator.normal(size=(8, 8)).astype(np.float32) / 3 for name in ("q.weight", "k.weight", "head.weight")}
    shape = {"scalar": [], "one element": [1], "three dimensions": [1, 1, 1]}.get(how, [])
    tensors = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    nodes = []
    for name, value in numbers.items():
        if how == "attribute":
            nodes.append(helper.make_node("Constant", [], [name], value_float=value))
        elif how == "node":
            nodes.append(helper.make_node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.FLOAT, [], [value])))
        else:
            tensors.append(helper.make_tensor(name, TensorProto.FLOAT, shape, [value]))
    nodes += [
        helper.make_node("MatMul", ["x", "q.weight"], ["q"]), helper.make_node("MatMul", ["x", "k.weight"], ["k"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]), helper.make_node("MatMul", ["q", "kt"], ["scores"]),
        helper.make_node("Mul", ["scores", "temperature"], ["logits"]), helper.make_node("Softmax", ["logits"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "x"], ["mixed"]), helper.make_node("Mul", ["mixed", "gate"], ["gated"]),
        helper.make_node("Add", ["gated", "offset"], ["moved"]), helper.make_node("MatMul", ["moved", "head.weight"], ["y"]),
    ]  # fmt: skip
    info = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8])] for name in ("x", "y")]
    graph = helper.make_graph(nodes, "main", *info, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


@pytest.mark.parametrize("how", ["scalar", "one element", "three dimensions", "node", "attribute"])
def test_trained_numbers_stay_weights(tmp_path: Path, how: str) -> None:
    graph = mpcc.capture(model(tmp_path / "m.onnx", how))
    kept = {round(float(value), 5) for value in graph.state_dict().values() if value.numel() == 1}
    assert kept == {round(value, 5) for value in TRAINED.values()}


@pytest.mark.slow
def test_nothing_of_them_is_public_and_nothing_is_paid_for_it(tmp_path: Path) -> None:
    """What client and dealer get is the same whatever was trained, and costs no more than public numbers in their place would."""
    inputs = torch.rand((64, 4, 8), generator=torch.Generator().manual_seed(0)) - 0.5
    public = {"temperature": 1.62, "gate": 0.731, "offset": 0.319}
    made = [
        mpcc.optimize(model(tmp_path / "m.onnx", "scalar", numbers), calibration=inputs) for numbers in (TRAINED, public)
    ]
    trained, known = (one.program.cost for one in made)
    assert trained.rounds == known.rounds and trained.bytes <= known.bytes
    said = [float(text) for text in re.findall(r"\d+\.\d+(?:e-?\d+)?", made[0].program.to_json() + made[0].plan.to_json())]
    assert said and [one for one in said for value in TRAINED.values() if math.isclose(one, value, rel_tol=1e-4)] == []
