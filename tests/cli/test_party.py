"""mpcc run --party: three commands that meet over TLS, of which two never see the weights; and wrong use."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mpcc import security
from mpcc.runtime.dealer import used

Mpcc = Callable[..., Any]
COMMAND = [sys.executable, "-c", "from mpcc.cli import main; main()"]


def free_ports() -> str:
    """Three addresses of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ",".join(f"127.0.0.1:{port}" for port in ports)


@pytest.fixture
def public(bundle: Path, tmp_path: Path) -> Path:
    """What client and dealer get, by itself: no weights, no model, no report."""
    return Path(shutil.copytree(bundle / "public", tmp_path / "public"))


@pytest.mark.slow
def test_three_commands_meet(mpcc: Mpcc, bundle: Path, public: Path, tmp_path: Path) -> None:
    """Server, client and dealer in processes of their own; two inferences; counts as predicted."""
    np.save(tmp_path / "x.npy", np.random.default_rng(2).normal(size=(2, 4)).astype(np.float32))
    assert mpcc("keys", "keys").code == 0
    peers = ["--peers", free_ports()]
    commands = {
        "dealer": [str(public), "--party", "dealer", "--tls", "keys/dealer"],
        "server": [str(bundle), "--party", "server", "--tls", "keys/server"],
        "client": [str(public), "--party", "client", "--tls", "keys/client", "--input", "x.npy", "--json"],
    }
    started = {
        name: subprocess.Popen(
            [*COMMAND, "run", *arguments, *peers],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, arguments in commands.items()
    }
    said = {name: process.communicate(timeout=120) for name, process in started.items()}
    assert {name: process.returncode for name, process in started.items()} == dict.fromkeys(commands, 0), said
    found = json.loads(said["client"][0])
    assert found["inferences"] == 2 and np.shape(found["outputs"][0]) == (2, 3)
    predicted = found["predicted"]
    assert {key: found[key] for key in ("rounds", "bytes")} == {key: predicted[key] for key in ("rounds", "bytes")}
    assert predicted["seconds"] == json.loads((bundle / "plan.json").read_text())["notes"]["seconds"]
    assert "(lan)" in predicted["seconds_of"]
    assert all(security.hides(security.ENDLESS) in err for _, err in said.values())
    assert said["server"][0] == "" and said["server"][1].count("inference") == 2

    from mpcc.pipeline import load
    from mpcc.program.program import FLOOD_REACH

    executable = load(bundle)
    emulated = executable.emulate(torch.from_numpy(np.load(tmp_path / "x.npy")))
    allowed = 1e-3 + FLOOD_REACH * executable.program.flood[0]
    np.testing.assert_allclose(np.array(found["outputs"][0]), emulated, atol=allowed)


@pytest.mark.slow
def test_material_from_files(mpcc: Mpcc, bundle: Path, public: Path, image: Path, tmp_path: Path) -> None:
    """The dealer writes beforehand and is gone; each party uses its file, once, whatever the environment says."""
    made = mpcc("run", public, "--party", "dealer", "--material", "dealt", "--repeat", "2")
    assert made.code == 0 and "server.material: for the server alone" in made.err

    def both(home: str) -> dict[str, tuple[int, str]]:
        peers = ["--peers", free_ports()]
        started = {
            role: subprocess.Popen(
                [*COMMAND, "run", *arguments, "--material", f"dealt/{role}.material", *peers],
                cwd=tmp_path,
                env=os.environ | {"XDG_STATE_HOME": str(tmp_path / home), "HOME": str(tmp_path / home)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for role, arguments in {
                "server": [str(bundle), "--party", "server"],
                "client": [str(public), "--party", "client", "--input", str(image), "--output", "y.npy"],
            }.items()
        }
        said = {role: process.communicate(timeout=120)[1] for role, process in started.items()}
        return {role: (process.returncode, said[role]) for role, process in started.items()}

    copies = {name: (tmp_path / "dealt" / name).read_bytes() for name in ("server.material", "client.material")}
    session = json.loads(copies["server.material"].partition(b"\n")[0])["session"]
    try:
        ended = both("one")
        assert {role: code for role, (code, _) in ended.items()} == {"server": 0, "client": 0}, ended
        assert np.load(tmp_path / "y.npy").shape == (1, 3)
        for name, data in copies.items():
            (tmp_path / "dealt" / name).write_bytes(data)
        for code, text in both("another").values():
            assert code == 2 and "used already" in text and "Traceback" not in text
    finally:  # what is noted in the home of who runs the tests
        for party in (0, 1):
            used.note(session, party).unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--party", "2", "--peers", "a:1,b:2,c:3"], ["unknown party '2'", "server, client or dealer"]),
        (["--party", "0"], ["--peers"]),
        (["--party", "0", "--peers", "a:1"], ["host:port"]),
        (["--party", "0", "--peers", "a,b,c"], ["host:port"]),
        (["--party", "client", "--peers", "a:1,b:2,c:3"], ["--input"]),
        (["--party", "client", "--peers", "a:1,b:2,c:3", "--input", "x.npy"], ["weights.safetensors", "--allow-weights"]),
        (["--party", "1", "--peers", "a:1,b:2,c:3", "--input", "x.npy"], ["weights.safetensors", "the folder public/"]),
        (["--party", "dealer", "--peers", "a:1,b:2,c:3"], ["belong to the server alone"]),
        (["--party", "dealer", "--material", "dealt"], ["belong to the server alone"]),
        (["--party", "client", "--peers", "a:1,b,c", "--input", "x.npy", "--allow-weights"], ["host:port"]),
        (["--party", "0", "--peers", "a:1,b:2,c:3", "--input", "x.npy"], ["--party client"]),
        (["--party", "0", "--peers", "a:1,b:2,c:3", "--network", "wan"], ["--network"]),
        (["--peers", "a:1,b:2,c:3", "--input", "x.npy"], ["--party"]),
        (["--material", "dealt", "--input", "x.npy"], ["--material", "--party"]),
        (["--party", "0", "--peers", "127.0.0.1:1,127.0.0.1:2", "--material", "none"], ["the material cannot be read"]),
        (["--party", "0", "--peers", "10.0.0.1:1,10.0.0.2:2,10.0.0.3:3"], ["TLS", "mpcc keys"]),
        (["--party", "0", "--peers", "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3", "--tls", "none"], ["certificate"]),
    ],
)
def test_wrong_use(mpcc: Mpcc, bundle: Path, image: Path, arguments: list[str], words: list[str]) -> None:
    answer = mpcc("run", bundle, *arguments)
    assert answer.code == 2 and answer.out == "" and "Traceback" not in answer.err
    assert all(word in answer.err for word in words), answer.err
