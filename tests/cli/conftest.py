"""A model of two linear layers as an ONNX file and as a bundle, and a command line that runs in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from mpcc.cli import app


@dataclass(frozen=True)
class Answer:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


Mpcc = Callable[..., Answer]


def write_onnx(path: Path) -> Path:
    """input [1, 4] -> linear -> relu -> linear -> output [1, 3]"""
    generator = np.random.default_rng(0)
    weights = {"fc1.weight": (4, 8), "fc1.bias": (8,), "fc2.weight": (8, 3), "fc2.bias": (3,)}
    stored = [
        numpy_helper.from_array(generator.normal(size=shape).astype(np.float32) / 2, name)
        for name, shape in weights.items()
    ]
    nodes = [
        helper.make_node("Gemm", ["input", "fc1.weight", "fc1.bias"], ["hidden"], name="/fc1/Gemm"),
        helper.make_node("Relu", ["hidden"], ["active"], name="/act/Relu"),
        helper.make_node("Gemm", ["active", "fc2.weight", "fc2.bias"], ["output"], name="/fc2/Gemm"),
    ]
    shapes = ("input", [1, 4]), ("output", [1, 3])
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in shapes)
    model = helper.make_model(
        helper.make_graph(nodes, "main", inputs, outputs, stored), opset_imports=[helper.make_opsetid("", 18)]
    )
    onnx.save(model, path)
    return path


@pytest.fixture
def mpcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mpcc:
    """mpcc("count", "model.onnx"): the command, run in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def run(*arguments: str | Path) -> Answer:
        result = runner.invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file. Read it only."""
    return write_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="session")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen inputs as .npy."""
    path = tmp_path_factory.mktemp("calibration") / "inputs.npy"
    np.save(path, np.random.default_rng(1).normal(size=(16, 4)).astype(np.float32))
    return path


@pytest.fixture(scope="session")
def bundle(model: Path, calibration: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `mpcc optimize` writes for the model. Read it only."""
    place = tmp_path_factory.mktemp("bundle") / "tiny.mpcc"
    arguments: Sequence[str] = ["optimize", str(model), "--calibration", str(calibration), "-o", str(place)]
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return place


@pytest.fixture
def own_bundle(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle to spoil."""
    import shutil

    return Path(shutil.copytree(bundle, tmp_path / "own.mpcc"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """One input as .npy."""
    np.save(tmp_path / "x.npy", np.full((1, 4), 0.5, np.float32))
    return tmp_path / "x.npy"
