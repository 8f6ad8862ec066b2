"""nn-level graph -> ONNX: standard operators, equal in onnxruntime, nothing local inside."""

from __future__ import annotations

import getpass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mpcc.frontend import capture
from mpcc.frontend.export import export_onnx
from tests.models.torch_models import DigitsViT, images


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    torch.manual_seed(0)
    graph = capture(DigitsViT(), images())
    return graph, export_onnx(graph, tmp_path_factory.mktemp("onnx") / "model.onnx")


def test_onnxruntime_agrees(written: tuple[torch.nn.Module, Path]) -> None:
    graph, path = written
    x = images()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["output"], {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, graph(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_standard_operators_and_names(written: tuple[torch.nn.Module, Path]) -> None:
    graph, path = written
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert {name for name, _ in graph.named_parameters()} <= {item.name for item in model.graph.initializer}


def test_nothing_local_is_left(written: tuple[torch.nn.Module, Path]) -> None:
    _, path = written
    text = path.read_bytes()
    for trace in (
        str(Path.home()),
        str(path.parent),
        __file__,
        "site-packages",
        "torch",
        "Traceback",
        getpass.getuser() + "@",
    ):
        assert trace.encode() not in text, trace
    assert [item.name for item in path.parent.iterdir()] == ["model.onnx"]
