"""mpcc run --engine spu: what is said where it cannot run. That it runs is shown in tests/runtime/spu."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import mpcc as package
from mpcc.runtime.spu import engine
from tests.cli.conftest import Mpcc


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle for aby3, one for semi2k, and an input of both."""
    place, images = tmp_path_factory.mktemp("spu"), torch.randn(80, 6, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3)).eval()
    for protocol in ("aby3", "semi2k"):
        made = package.optimize(model, (images[:1],), calibration=images, protocol=protocol, machine="reference")
        made.save(place / protocol)
    np.save(place / "x.npy", images[:1].numpy())
    return place


USES = {
    "--engine crypten": "unknown engine",
    "--spu-python python": "--spu-python needs --engine spu",
    "--engine spu --network lan": "mpcc's own engine",
    "--engine spu --peers a:1,b:2": "need --party",
    "--engine spu --party dealer --peers 127.0.0.1:1,127.0.0.1:2,127.0.0.1:3": "server, client, helper",
    "--engine spu --party client": "needs the addresses",
    "--engine spu --party client --peers 127.0.0.1:1,127.0.0.1:2,127.0.0.1:3": "belong to the server alone",
    "--engine spu --spu-python /nowhere/python": "no Python interpreter",
}


@pytest.mark.parametrize("use", sorted(USES))
def test_wrong_uses(mpcc: Mpcc, bundles: Path, use: str) -> None:
    said = mpcc("run", str(bundles / "aby3"), "--input", str(bundles / "x.npy"), *use.split())
    assert said.code == 2 and USES[use] in " ".join(said.err.split())


def test_without_spu_the_command_that_installs_it_is_named(
    mpcc: Mpcc, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    said = mpcc("run", str(bundles / "aby3"), "--engine", "spu", "--input", str(bundles / "x.npy"))
    assert said.code == 2 and 'pip install "mpcc[spu]"' in said.err


def test_on_several_machines_a_dealer_that_is_the_server_has_to_be_accepted(mpcc: Mpcc, bundles: Path) -> None:
    peers = ("--party", "client", "--peers", "127.0.0.1:1,127.0.0.1:2")
    said = mpcc("run", str(bundles / "semi2k/public"), "--engine", "spu", *peers, "--input", str(bundles / "x.npy"))
    assert said.code == 2 and "--insecure-dealer" in said.err
