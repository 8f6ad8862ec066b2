"""A model with public parameters served: clients fetch what they compute themselves, check it, and share what it gives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

import mpcc
from mpcc.bundle import open_bundle
from mpcc.errors import BundleError, MissingDependency, PartyError, SecurityError, ShapeError, UsageError
from mpcc.runtime.executable import Executable
from mpcc.serving.public_part import PublicPart
from mpcc.serving.served import Served
from tests.client.test_javascript import NODE, javascript
from tests.models.served import Trio, bundle, serving

SHAPE = (1, 1, 4, 4)
NOISE = 0.1
"""More than the noise of outputs of magnitude 1."""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(3)
    return Net().eval()


@pytest.fixture(scope="module")
def trio(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    made = mpcc.optimize(net, torch.randn(SHAPE), calibration=torch.randn(64, *SHAPE[1:]), public=["fc1.*"], machine="reference")
    how = {"channels": "L", "mean": [0.5], "std": [0.25], "resize": [4, 4], "labels": ["a", "b", "c"]}
    made = replace(made, plan=replace(made.plan, notes={**made.plan.notes, "preprocess": how}))
    place = made.save(tmp_path_factory.mktemp("public") / "m.mpcc")
    with serving(open_bundle(place), batches=(1, 2)) as running:
        yield running


def test_answers_are_those_of_the_whole_model(trio: Trio, net: Net) -> None:
    with trio.client() as client:
        assert client.model.taken == (SHAPE,) and client.model.inputs[0].shape == (1, 12)
        for seed in range(3):
            x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
            answer = client.ask(x.numpy())
            assert np.abs(answer.output - net(x).detach().numpy()).max() < NOISE and not answer.warnings
            emulated = Executable.load(trio.bundle.folder).emulate(x, check=False)
            assert np.abs(answer.output - np.asarray(emulated)).max() < NOISE
        picture = np.random.default_rng(0).integers(0, 256, (9, 7)).astype(np.uint8)
        assert client.predict(picture).label in ("a", "b", "c")


def test_what_each_server_gets_is_the_size_of_what_is_behind(trio: Trio) -> None:
    with trio.client() as client:
        document = client.model.document
        assert document["cost"]["bytes of a request"] == 32 + 8 * 12
        assert "fc1.bias, fc1.weight" in document["security"]["The public parameters"]
        assert "server and helper learn nothing" in document["security"]["The public parameters"]


def test_inputs_of_another_shape(trio: Trio) -> None:
    with trio.client() as client, pytest.raises(ShapeError, match=r"shape \[1, 12\], the model takes \[1, 1, 4, 4\]"):
        client.ask(np.zeros((1, 12)))


def test_a_copy_of_the_client_s_own(trio: Trio, tmp_path: Path) -> None:
    """Taken where it is the right one; nothing else is."""
    x, file = np.zeros(SHAPE), trio.bundle.folder / "public" / "prefix.onnx"
    with trio.client(prefix=file) as client:
        expected = client.ask(x).output
        assert client.prefix.where == str(file)
    other = tmp_path / "prefix.onnx"
    other.write_bytes(file.read_bytes()[:-1] + b"\1")
    with trio.client(prefix=other) as client, pytest.raises(SecurityError, match="not the public part"):
        client.ask(x)
    with trio.client(prefix=tmp_path / "none") as client, pytest.raises(UsageError, match="cannot be read"):
        client.ask(x)
    assert expected.shape == (1, 3)


def test_a_client_without_onnxruntime_says_so(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with trio.client() as client, pytest.raises(MissingDependency, match="onnxruntime"):
        client.ask(np.zeros(SHAPE))


def test_servers_of_different_public_parts_are_refused(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    """One server alone cannot give clients another file: the helper names it too, and the digest holds it."""
    served = trio.served["helper"]
    assert served.public_part is not None
    other = replace(served, public_part=replace(served.public_part, body=b"x"))
    assert other.digest != served.digest
    monkeypatch.setattr("mpcc.client.web.Site.file", lambda self, path, size: b"x" * size)
    with trio.client() as client:
        with pytest.raises(SecurityError, match="not the public part that both servers name"):
            client.ask(np.zeros(SHAPE))


def test_a_part_of_another_program_is_refused(trio: Trio) -> None:
    with pytest.raises(BundleError, match=r"gives \[1, 12\], the program takes \[1, 13\]"):
        PublicPart.of(trio.bundle, [(1, 13)])
    damaged = replace(trio.bundle, plan=replace(trio.bundle.plan, notes={**trio.bundle.plan.notes, "public": 3}))
    with pytest.raises(BundleError, match="no list of names"):
        Served.of(damaged)


def test_a_model_without_one(tmp_path: Path) -> None:
    with serving(bundle(tmp_path / "m.mpcc", "linear")) as running, running.client() as client:
        assert Served.of(running.bundle).public_part is None
        with pytest.raises(UsageError, match="no public part"):
            _ = client.prefix
        with pytest.raises(PartyError, match="HTTP 404: all of this model's parameters are secret"):
            client.pairs[0][0].file("/v1/prefix", 1)


ASK = """
import re, sys
import numpy as np
from mpcc.client import Client
with Client(*sys.argv[1:]) as client:
    client.ask(np.zeros((1, 1, 4, 4)))
assert "torch" not in sys.modules and "onnxruntime" in sys.modules
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)
"""


def test_a_client_still_imports_no_torch_and_stays_small(trio: Trio) -> None:
    command = [sys.executable, "-c", ASK, trio.url("server"), trio.url("helper")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 100


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_client_in_javascript(trio: Trio, net: Net) -> None:
    """The page brings what runs the file; without it, nothing is sent."""
    x = torch.randn(SHAPE)
    asked = {"inputs": [x.reshape(-1).tolist()], "server": trio.url("server"), "helper": trio.url("helper")}
    layer = {"weight": net.fc1.weight.tolist(), "bias": net.fc1.bias.tolist()}
    (found,) = javascript(task="ask", options={"hidden": layer}, **asked)["result"]
    assert np.abs(net(x).detach().reshape(-1).numpy() - found["values"]).max() < NOISE
    assert "begins with a public part" in javascript(task="ask", **asked)["error"]
    short = javascript(task="ask", options={"hidden": layer}, **{**asked, "inputs": [[1.0]]})
    assert "1 values, the model takes 16" in short["error"]


def test_public_weights_behind_a_secret_one(net: Net, tmp_path: Path) -> None:
    """Server and helper multiply their shares by them; clients have nothing to compute first."""
    made = mpcc.optimize(net, torch.randn(SHAPE), calibration=torch.randn(64, *SHAPE[1:]), public=["fc2.*"], machine="reference")
    assert made.prefix is None and made.program.public_names
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(4))
    with serving(open_bundle(made.save(tmp_path / "m.mpcc")), batches=(1, 2)) as running, running.client() as client:
        assert np.abs(client.ask(x.numpy()).output - net(x).detach().numpy()).max() < NOISE
        assert "fc2.bias, fc2.weight" in client.model.document["security"]["The public parameters"]
