"""The example models: weights, ONNX files and held-out images agree, and the files say nothing of their maker."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from examples.digits_vit.model import digits_vit
from examples.fashion_vit import data
from examples.fashion_vit.model import fashion_vit

EXAMPLES = Path(__file__).parents[1] / "examples"
MODELS = {"digits_vit": 2_000_000, "fashion_vit": 4_000_000}  # and how many bytes their folder may have
LOCAL = re.compile(rb"/home/|/root/|/work/|/tmp/|/usr/|/Users/|site-packages|\.py\b|stack_trace|Traceback")


TRAINED = {"digits_vit": digits_vit, "fashion_vit": fashion_vit}


@pytest.mark.parametrize("name", MODELS)
def test_the_onnx_file_is_the_model(name: str) -> None:
    model, (example,) = TRAINED[name]()
    image = torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(EXAMPLES / name / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": image.numpy()})
    np.testing.assert_allclose(logits, model(image).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_the_onnx_file_has_no_metadata_and_no_local_path(name: str) -> None:
    path = EXAMPLES / name / "model.onnx"
    proto = onnx.load(path, load_external_data=False)
    assert not any(part.metadata_props or part.doc_string for part in (proto, proto.graph, *proto.graph.node))
    assert LOCAL.findall(path.read_bytes()) == []


@pytest.mark.parametrize(("name", "limit"), MODELS.items())
def test_the_folder_stays_small(name: str, limit: int) -> None:
    folder = EXAMPLES / name
    assert sum(path.stat().st_size for path in folder.glob("*.*") if path.is_file()) < limit


def test_the_digits_model_is_right_on_97_of_100_held_out_images() -> None:
    held_out = np.load(EXAMPLES / "digits_vit" / "heldout.npz")
    model, _ = digits_vit()
    with torch.no_grad():
        answers = model(torch.from_numpy(held_out["images"])).argmax(1).numpy()
    assert (answers == held_out["labels"]).mean() >= 0.97


def test_no_calibration_image_is_held_out() -> None:
    folder = EXAMPLES / "digits_vit"
    calibration, held_out = np.load(folder / "calibration.npz"), np.load(folder / "heldout.npz")
    assert calibration["images"].shape == (256, 1, 8, 8)
    seen = {image.tobytes() for image in held_out["images"]}
    assert not any(image.tobytes() in seen for image in calibration["images"])


@pytest.mark.slow
def test_the_fashion_model_is_right_on_90_of_100_test_images() -> None:
    """Where the images are: the Debian package is installed, or was fetched by data.py."""
    if not any((root / data.INSIDE).is_dir() for root in (Path("/"), data.FETCHED)):
        pytest.skip("Fashion-MNIST is not here: python -m examples.fashion_vit.data")
    images, labels = data.test()
    model, _ = fashion_vit()
    with torch.no_grad():
        batches = zip(images.split(500), labels.split(500), strict=True)
        right = sum((model(x).argmax(1) == y).sum().item() for x, y in batches)
    assert right >= 9_000


def test_the_committed_counts_of_the_ci_example_hold() -> None:
    """As whoever copies it runs it: with counts of an earlier mpcc it would greet them with a failure."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "examples/ci"]
    done = subprocess.run(command, cwd=EXAMPLES.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
