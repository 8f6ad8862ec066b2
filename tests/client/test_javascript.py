"""The client in JavaScript, under node: the same numbers as the one in Python, and answers of a service."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from mpcc.client.preprocess import Preprocess
from tests.models.programs import SHAPE

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")
CHECK = Path(__file__).parents[2] / "examples" / "web" / "check.mjs"
RGB = {"channels": "RGB", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}


def javascript(**task: Any) -> Any:
    """The result of a task of check.mjs."""
    assert NODE is not None
    done = subprocess.run([NODE, str(CHECK)], input=json.dumps(task), capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "how",
    [
        {**RGB, "resize": [20], "crop": [16, 16], "interpolation": "bicubic"},
        {**RGB, "resize": [50, 70], "interpolation": "bilinear"},
        {**RGB, "crop": [40, 12]},
        {"channels": "L", "mean": [4.886], "std": [6.018], "rescale": 16 / 255, "resize": [8, 8], "interpolation": "box"},
    ],
)
def test_preprocessing_is_the_same(how: dict[str, Any]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (30, 44, 4)).astype(np.uint8)
    given = {"data": picture.reshape(-1).tolist(), "width": 44, "height": 30}
    found = javascript(task="preprocess", picture=given, how=how)["result"]
    assert np.abs(Preprocess.read(how)(picture).reshape(-1) - found).max() < 1e-9


def test_shares() -> None:
    """Exact, each uniform."""
    values = np.random.default_rng(1).normal(size=4000).round(3).tolist()
    found = javascript(task="shares", values=values, scale=65536.0)["result"]
    assert np.abs(np.array(found["back"]) - values).max() <= 0.5 / 65536 + 1e-12
    for share in ("first", "second"):
        assert stats.chisquare(np.bincount(found[share], minlength=256)).pvalue > 1e-6
    drawn = javascript(task="random", count=200_001)["result"]
    assert len(drawn) == 200_001 and stats.chisquare(np.bincount(drawn, minlength=256)).pvalue > 1e-6


@pytest.mark.parametrize("value", [1e9, "x", None])
def test_inputs_that_cannot_be_right(value: Any) -> None:
    assert "cannot compute with" in javascript(task="shares", values=[0.0, value], scale=65536.0)["error"]


def test_ranges() -> None:
    seen = {"smallest value": [0, 0.1], "largest value": [0.9, 1.0], "mean": [0.4, 0.6]}
    assert javascript(task="outside", values=[0.05, 0.5, 0.95], seen=seen, calls=64)["result"] == []
    (line,) = javascript(task="outside", values=[0.05, 0.2, 1.5], seen=seen, calls=64)["result"]
    assert line.startswith("largest value 1.5")


def test_answers_of_a_service(tmp_path: Path) -> None:
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        pytest.importorskip(package)
    from tests.models.served import bundle, serving

    with serving(bundle(tmp_path / "m.mpcc")) as trio:
        inputs = [torch.randn(SHAPE) for _ in range(3)]
        where = {"server": trio.url("server"), "helper": trio.url("helper")}
        flat = [x.reshape(-1).tolist() for x in inputs]
        found = javascript(task="ask", inputs=flat, **where)["result"]
        for x, answer in zip(inputs, found, strict=True):
            (expected,) = trio.emulated(x)
            assert np.abs(expected.reshape(-1).numpy() - answer["values"]).max() < 5e-3
        swapped = javascript(task="ask", inputs=flat, server=where["helper"], helper=where["server"])
        assert "server first" in swapped["error"]
        other = javascript(task="ask", inputs=flat, options={"digest": "0" * 64}, **where)
        assert "another model" in other["error"]
        short = javascript(task="ask", inputs=[[1.0]], **where)
        assert "1 values, the model takes 80" in short["error"]
