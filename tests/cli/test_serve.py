"""mpcc serve and mpcc ask: roles as processes on this machine, and what is told of wrong use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcc.runtime.net.connect import free_ports
from mpcc.serving.local import here

Mpcc = Callable[..., Any]
PREPROCESS = {"channels": "L", "mean": [0.0], "std": [1.0], "resize": [2, 2]}


@pytest.mark.slow
def test_all_roles_here_answer(mpcc: Mpcc, bundle: Path, image: Path, tmp_path: Path) -> None:
    """Two replicas, of which one loses its dealer; the answers are those of the emulation."""
    pytest.importorskip("fastapi")
    import torch

    from mpcc.runtime.executable import Executable

    expected = Executable.load(bundle).emulate(torch.from_numpy(np.load(image)), check=False)
    with here(bundle, replicas=2, port=free_ports(1)[0], options=["--batch=1,2"]) as running:
        servers = [",".join(getattr(one, role) for one in running.replicas) for role in ("server", "helper")]
        running.processes.pop(("dealer", 1)).kill()
        found = mpcc("ask", *servers, image, image, image, "--json", "--output", "y.npy")
    assert found.code == 0, found.err
    answers = json.loads(found.out)
    assert len(answers) == 3 and np.load(tmp_path / "y.npy").shape == (3, 1, 3)
    for answer in answers:
        assert np.abs(np.array(answer["outputs"][0]) - np.array(expected)).max() < 0.1


@pytest.mark.slow
def test_the_command_says_that_it_protects_nobody_and_ends_cleanly(bundle: Path) -> None:
    pytest.importorskip("fastapi")
    command = [sys.executable, "-m", "mpcc", "serve", str(bundle), "--http", f"127.0.0.1:{free_ports(1)[0]}", "--batch", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert "NOT PRIVATE" in lines[0] and "protects nobody" in lines[0]
    assert "server: http://" in lines[1] and "mpcc ask http://" in lines[2]
    assert "Traceback" not in err and process.returncode == 130


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--role", "cook"], "unknown role"),
        (["--role", "server"], "no address of the server and the dealer"),
        (["--role", "server", "--peers", "server=127.0.0.1:1,dealer=127.0.0.1:2"], "say where"),
        (["--role", "server", "--peers", "client=127.0.0.1:1"], "is not server=HOST:PORT"),
        (["--role", "dealer", "--peers", "dealer=other.example:2"], "needs TLS"),
        (["--role", "server", "--http", "x"], "not HOST:PORT"),
        (["--batch", "a"], "invalid batch sizes"),
        (["--batch", "0"], "invalid batch sizes"),
        (["--http", "0.0.0.0:1"], "protect nobody"),
        (["--tls", "keys"], "these options are of one role"),
        (["--role", "dealer", "--replicas", "2"], "a process of one role is one replica"),
        (["--config", "none.toml"], "there is no such file"),
        (["--network", "fast"], "network"),
    ],
)
def test_wrong_use_of_serve(mpcc: Mpcc, bundle: Path, arguments: list[str], said: str) -> None:
    pytest.importorskip("fastapi")
    found = mpcc("serve", bundle, *arguments)
    assert found.code == 2 and said in found.err, found.err


def test_a_helper_with_the_weights_is_refused(mpcc: Mpcc, bundle: Path) -> None:
    pytest.importorskip("fastapi")
    peers = ["--peers", "server=127.0.0.1:1,dealer=127.0.0.1:2", "--http", "127.0.0.1:3"]
    found = mpcc("serve", bundle, "--role", "helper", *peers)
    assert found.code == 2 and "belong to the server alone" in found.err and "public" in found.err


def test_no_bundle(mpcc: Mpcc, tmp_path: Path) -> None:
    found = mpcc("serve", tmp_path / "none")
    assert found.code == 2 and "no such folder" in found.err


def test_the_http_stack_is_missing(mpcc: Mpcc, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else known(name))
    found = mpcc("serve", bundle)
    assert found.code == 2 and "serving needs" in found.err and "mpcc[serve]" in found.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["http://127.0.0.1:9", "http://127.0.0.1:10", "none.npy"], "there is no such file"),
        (["http://127.0.0.1:9", "http://127.0.0.1:9", "x.npy"], "server and helper are one"),
        (["http://127.0.0.1:9,http://127.0.0.1:8", "http://127.0.0.1:10", "x.npy"], "2 servers and 1 helpers"),
        (["http://a.example", "http://b.example", "x.npy"], "unencrypted"),
        (["http://127.0.0.1:9", "http://127.0.0.1:10", "x.npy"], "not reached"),
        (["ftp://x", "http://127.0.0.1:10", "x.npy"], "not the address of a server"),
    ],
)
def test_wrong_use_of_ask(mpcc: Mpcc, image: Path, arguments: list[str], said: str) -> None:
    found = mpcc("ask", *arguments)
    assert found.code == 2 and said in found.err and "Traceback" not in found.err


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "no preprocessing that can be read"),
        (json.dumps({"channels": "L"}), "channels, mean, std"),
        (json.dumps({"input_size": [3, 2, 2], "mean": [0]}), "'std' is missing"),
        (json.dumps(PREPROCESS), "pictures become [1, 2, 2], the model takes [1, 4]"),
        (json.dumps(PREPROCESS | {"resize": 2}), "pictures keep their own sizes"),
    ],
)
def test_preprocessing_that_does_not_fit(mpcc: Mpcc, model: Path, calibration: Path, document: str, said: str) -> None:
    Path("how.json").write_text(document)
    found = mpcc("optimize", model, "--calibration", calibration, "--preprocess", "how.json")
    assert found.code == 2 and said in found.err, found.err
    assert not Path("tiny.mpcc").exists()


def test_preprocessing_is_not_for_fronts(mpcc: Mpcc, model: Path) -> None:
    found = mpcc("optimize", model, "--pareto", "--preprocess", "how.json")
    assert found.code == 2 and "belongs to a bundle" in found.err


MODULE = '''
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 2)
        self.pretrained_cfg = {{
            "input_size": (3, {size}, {size}), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop_pct": 0.9,
            "interpolation": "bicubic", "label_names": ["cat", "dog"],
        }}

    def forward(self, x):
        return self.conv(x).mean((2, 3))

def net():
    return Net().eval(), (torch.zeros(1, 3, 4, 4),)
'''


@pytest.mark.parametrize(("size", "fits"), [(4, True), (8, False)])
def test_a_model_that_says_how_its_pictures_are_made(mpcc: Mpcc, size: int, fits: bool) -> None:
    """timm's `pretrained_cfg` goes into the bundle where it gives the input, and is reported where it does not."""
    Path("net.py").write_text(MODULE.format(size=size))
    found = mpcc("optimize", "net.py:net", "--machine", "reference", "-o", "net.mpcc")
    assert found.code == 0, found.err
    notes = json.loads(Path("net.mpcc/plan.json").read_text())["notes"]
    assert ("preprocess" in notes) == fits and ("was left out" in found.err) != fits
    if fits:
        assert notes["preprocess"]["labels"] == ["cat", "dog"] and notes["preprocess"]["crop"] == [4, 4]
