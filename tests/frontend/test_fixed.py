"""Inputs that are constants of a compilation: in every front end, by number or tensor; they may decide the flow of control."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F
from typer.testing import CliRunner

import mpcc
from mpcc.cli.app import app
from mpcc.errors import ShapeError, UsageError


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        assert mask is not None
        if mask.all():
            return self.layer(x)
        return self.layer(F.scaled_dot_product_attention(x, x, x, mask[:, None, :].bool()))


X, MASK = torch.randn(1, 3, 4), torch.tensor([[1, 1, 0]])


@pytest.mark.parametrize("value", [1, MASK])
def test_it_may_decide(value: int | Tensor) -> None:
    model = Masked().eval()
    graph = mpcc.capture(model, (X, MASK), fixed={"mask": value})
    want = model(X, value if isinstance(value, Tensor) else torch.ones(1, 3, dtype=torch.long))
    assert [str(node.target) for node in graph.graph.nodes if node.op == "placeholder"] == ["x"]
    torch.testing.assert_close(graph(X), want)
    if isinstance(value, Tensor):
        torch.testing.assert_close(mpcc.capture(model, (X,), fixed={"mask": value})(X), want)


def test_programs_and_files(tmp_path: Path) -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x @ y.T

    y = torch.randn(5, 4)
    program = torch.export.export(Sum(), (X[0], y))
    torch.export.save(program, tmp_path / "m.pt2")
    for model in (program, tmp_path / "m.pt2"):
        torch.testing.assert_close(mpcc.capture(model, fixed={"y": y})(X[0]), X[0] @ y.T)


def onnx_model() -> object:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["a"]),
        helper.make_node("If", ["on"], ["y"], **{
            name: helper.make_graph([helper.make_node(kind, ["a"], [name])], name, [],
                                    [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])
            for name, kind in (("then_branch", "Relu"), ("else_branch", "Neg"))
        }),
    ]  # fmt: skip
    inputs = [("x", TensorProto.FLOAT, [2, 2]), ("shape", TensorProto.INT64, [1]), ("on", TensorProto.BOOL, [])]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info(*one) for one in inputs], [result])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_onnx() -> None:
    x = torch.randn(2, 2)
    graph = mpcc.capture(onnx_model(), fixed={"shape": torch.tensor([4]), "on": False})
    torch.testing.assert_close(graph(x), -x.reshape(4))


def test_what_cannot_be_fixed() -> None:
    model = Masked().eval()
    with pytest.raises(UsageError, match="no input 'masc'"):
        mpcc.capture(model, (X, MASK), fixed={"masc": MASK})
    with pytest.raises(ShapeError, match="shape"):
        mpcc.capture(model, (X, MASK), fixed={"mask": torch.ones(1, 4)})
    with pytest.raises(UsageError, match="every input"):
        mpcc.capture(onnx_model(), fixed={"x": 0.0, "shape": 4, "on": True})
    with pytest.raises(UsageError, match="whole numbers"):
        mpcc.capture(model, (X, MASK), fixed={"mask": 0.5})


def test_on_the_command_line(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "y"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["z"])]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4] if name == "x" else [4, 4]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4])], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    np.save(tmp_path / "y.npy", 2 * np.eye(4, dtype=np.float32))
    place = tmp_path / "m.mpcc"
    arguments = ["optimize", str(tmp_path / "m.onnx"), "-o", str(place), "--machine", "reference"]
    made = CliRunner().invoke(app, [*arguments, "--fix", f"y={tmp_path / 'y.npy'}"])
    assert made.exit_code == 0, made.output
    executable = mpcc.load(place)
    assert executable.input_shapes == [(1, 4)]
    x = torch.randn(1, 4)
    found = executable.emulate(x, check=False)
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, 2 * x, rtol=0, atol=1e-2)
    assert CliRunner().invoke(app, [*arguments, "--fix", "y=none.npy"]).exit_code == 2
