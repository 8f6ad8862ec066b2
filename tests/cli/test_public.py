"""mpcc optimize --public: the client computes the public part, the bundle says so, and the rest is run privately."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner

from mpcc.cli import app
from mpcc.pipeline import load

from .conftest import Mpcc


@pytest.fixture(scope="module")
def public_bundle(model: Path, calibration: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("public") / "public.mpcc"
    arguments = ["optimize", str(model), "--public", "fc1.*", "--calibration", str(calibration), "--json", "-o", str(place)]
    made = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert made.exit_code == 0, made.stderr
    found = json.loads(made.stdout)
    assert found["public"] == ["fc1.bias", "fc1.weight"] and "fc1.bias, fc1.weight" in found["security"]
    return place


def test_the_rest_is_run_privately(mpcc: Mpcc, public_bundle: Path, bundle: Path, model: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(5).normal(size=(1, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", image)
    done = mpcc("run", public_bundle, "--input", "x.npy", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    expected = onnxruntime.InferenceSession(model).run(None, {"input": image})[0]
    np.testing.assert_allclose(np.array(found["outputs"][0]), expected, atol=0.01)
    cost, whole = load(public_bundle).program.cost, load(bundle).program.cost
    assert (found["rounds"], found["bytes"]) == (cost.rounds, cost.bytes)
    assert cost.rounds < whole.rounds and cost.bytes < whole.bytes  # the hidden layer and its ReLU are the client's
    verified = mpcc("verify", public_bundle)
    assert verified.code == 0 and "private vs. plain" in verified.out


def test_the_client_has_the_public_part_and_no_more(public_bundle: Path, model: Path, tmp_path: Path) -> None:
    """Files of the owner's weights, searched for in what the client gets."""
    weights = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(model).graph.initializer}
    client = b"".join(path.read_bytes() for path in sorted((public_bundle / "public").iterdir()))
    assert weights["fc1.weight"].T.tobytes() in client or weights["fc1.weight"].tobytes() in client
    assert not any(weights["fc2.weight"].T[row].tobytes() in client for row in range(3))
    assert not any(weights["fc2.weight"][row].tobytes() in client for row in range(8))
    assert "prefix.onnx" in {path.name for path in (public_bundle / "public").iterdir()}


def test_a_changed_public_part_is_refused(mpcc: Mpcc, public_bundle: Path, image: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(public_bundle, tmp_path / "own.mpcc"))
    (own / "prefix.onnx").write_bytes((own / "prefix.onnx").read_bytes() + b"\0")
    done = mpcc("run", own, "--input", image)
    assert done.code != 0 and "prefix.onnx was changed" in done.err


def test_the_report_says_what_is_public(public_bundle: Path) -> None:
    assert "fc1.weight" in (public_bundle / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--public", "blocks.*"], ["blocks.*", "fc1.weight"]),
        (["--public", "*"], ["without anybody"]),
        (["--public", "fc.9-1.*"], ["empty"]),
        (["--public", "fc1.*", "--pareto"], ["--pareto"]),
    ],
)
def test_wrong_use(mpcc: Mpcc, model: Path, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    done = mpcc("optimize", model, *arguments, "-o", "made")
    assert done.code == 2 and all(word in done.err for word in words), done.err
    assert not (tmp_path / "made").exists()


def test_a_bundle_with_a_public_part_is_no_model(mpcc: Mpcc, public_bundle: Path) -> None:
    done = mpcc("optimize", public_bundle, "-o", "made")
    assert done.code == 2 and "would be lost" in done.err
