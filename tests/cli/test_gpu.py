"""mpcc gpu and --device, as a user sees them on a machine without a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mpcc.cost.machine import Machine
from mpcc.runtime.device import compiled
from mpcc.runtime.executable import Executable
from mpcc.serving.config import read

Mpcc = Callable[..., Any]
NO_GPU = pytest.mark.skipif(torch.version.cuda is not None, reason="this torch knows GPUs")


@NO_GPU
def test_what_is_here(mpcc: Mpcc) -> None:
    answer = mpcc("gpu")
    assert answer.code == 0 and "GPUs: none that torch can use" in answer.out
    found = json.loads(mpcc("gpu", "--json").out)
    assert found["devices"] == [] and found["nvcc"] == compiled.nvcc()


@NO_GPU
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--build"], "no GPU is visible here"),
        (["--architecture", "sm_90"], "--architecture says what --build compiles"),
        (["--build", "--architecture", "x"], "not an architecture"),
    ],
)
def test_what_cannot_be_built(mpcc: Mpcc, arguments: list[str], says: str) -> None:
    answer = mpcc("gpu", *arguments)
    assert answer.code == 2 and says in answer.err


@NO_GPU
@pytest.mark.parametrize(("name", "says"), [("cuda", "built without CUDA"), ("tpu", "is no device for a party")])
@pytest.mark.parametrize("role", [[], ["--party", "dealer", "--material", "dealt"]])
def test_a_device_that_cannot_be_is_refused(
    mpcc: Mpcc, bundle: Path, image: Path, name: str, says: str, role: list[str]
) -> None:
    asked = [] if role else ["--input", str(image)]
    answer = mpcc("run", bundle, *asked, *role, "--allow-weights", "--device", name)
    assert answer.code == 2 and says in answer.err


def test_a_material_that_was_dealt_on_a_device(mpcc: Mpcc, bundle: Path) -> None:
    dealt = ["--party", "dealer", "--material", "dealt", "--allow-weights", "--device", compiled.HOST]
    assert mpcc("run", bundle, *dealt).code == 0
    assert sorted(path.name for path in Path("dealt").iterdir()) == ["client.material", "server.material"]


def test_a_session_of_processes_on_a_device(bundle: Path) -> None:
    executable, x = Executable.load(bundle), np.full((1, 4), 0.5, np.float32)
    found = executable.run(x, device=compiled.HOST)
    assert torch.equal(found.outputs[0].argmax(-1), executable.emulate(x, device=compiled.HOST).argmax(-1))  # type: ignore[union-attr]
    assert (found.rounds, found.bytes) == (executable.program.cost.rounds, executable.program.cost.bytes)


def test_a_device_of_serve_toml(tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text('device = "cuda:1"\n[peers]\nserver = "127.0.0.1:7000"\n')
    assert read(tmp_path / "serve.toml", "helper").device == "cuda:1"


def test_a_run_on_a_device_is_held_against_no_price_of_the_cpu(mpcc: Mpcc, bundle: Path, image: Path) -> None:
    answer = mpcc("run", bundle, "--input", image, "--device", compiled.HOST, "--json")
    found = json.loads(answer.out)
    assert answer.code == 0 and found["predicted"]["seconds"] is None and "off the prediction" not in answer.err
    assert found["rounds"] == found["predicted"]["rounds"]


def test_the_figures_of_a_device_are_a_machine(mpcc: Mpcc, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They name the device, and whatever is predicted with them says so."""
    monkeypatch.setattr("mpcc.runtime.benchmark.DEVICE_SIZES", (64, 2048))
    answer = mpcc("benchmark", "--device", compiled.HOST, "-o", "gpu.json", "--json")
    found = json.loads(answer.out)
    assert answer.code == 0 and found["alone"] and found["processor"] == "the GPU's kernels on this CPU"
    assert all(value >= 0 for value in found["seconds"].values()) and found["seconds"]["per_leaf"] > 0
    assert Machine.named("gpu.json") is not None and Machine.file() != Path("gpu.json").resolve()
    priced = mpcc("profile", bundle, "--machine", "gpu.json", "--json")
    assert priced.code == 0 and "the GPU's kernels on this CPU" in priced.out


@pytest.mark.parametrize(
    "arguments", [["--device", "host"], ["-o", "gpu.json"], ["--device", "host", "-o", "gpu.json", "--show"]], ids=" ".join
)
def test_figures_of_a_device_go_to_a_file_of_their_own(mpcc: Mpcc, arguments: list[str]) -> None:
    answer = mpcc("benchmark", *arguments)
    assert answer.code == 2 and "device" in answer.err
