"""A program that is too coarse in fixed point is refused by name, by every face that makes one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import mpcc
from mpcc import pipeline
from mpcc.cli.app import app
from mpcc.errors import BudgetError, PrecisionError
from mpcc.lowering import Settings
from mpcc.runtime.engine.fidelity import off
from tests.models.two_blocks import two_blocks

COARSE = Settings(input_bits=1, fraction_bits=1)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(8, 1, 4, 8)


def test_off_is_a_share_of_the_spread() -> None:
    expected = torch.tensor([99.0, 101.0])
    assert off(expected + 0.5, expected) == pytest.approx(0.5)
    assert off(torch.tensor([2.2]), torch.tensor([2.0])) == pytest.approx(0.1)  # one value has no spread: of its size
    assert off(torch.zeros(3), torch.zeros(3)) == 0


def test_a_coarse_program_is_refused_with_its_site(images: torch.Tensor) -> None:
    said = r"(?s)site blocks\.0\.[a-z.]+: in fixed point the outputs are off by .*--tolerance"
    with pytest.raises(PrecisionError, match=said) as caught:
        mpcc.compile(*two_blocks(), calibration=images, settings=COARSE)
    assert caught.value.exit_code == 1
    with pytest.raises(PrecisionError):
        mpcc.optimize(*two_blocks(), calibration=images, settings=COARSE)


def test_it_is_made_where_that_is_asked_for(images: torch.Tensor) -> None:
    coarse = Settings(input_bits=3, fraction_bits=2, tolerance=float("inf"))
    made = mpcc.optimize(*two_blocks(), calibration=images, settings=coarse)
    assert made.errors["mean_error"] > mpcc.optimize(*two_blocks(), calibration=images).errors["mean_error"]


def test_a_search_does_not_choose_one(images: torch.Tensor) -> None:
    """The plan that a budget wants is not taken once it is above the tolerance: a finer program is, another plan, or none."""
    model, inputs = two_blocks()
    asked = {"calibration": images, "level": "structural", "budget": "0.25s", "network": "wan"}
    made = mpcc.optimize(model, inputs, **asked)
    share = _share(made, images)
    assert 0 < share < 0.05
    try:
        other = mpcc.optimize(model, inputs, **asked, settings=Settings(tolerance=0.95 * share))
    except BudgetError:
        return
    assert _share(other, images) <= 0.95 * share


def _share(made: mpcc.Optimized, images: torch.Tensor) -> float:
    found = torch.cat([made.executable().emulate(image) for image in images[:4]])
    approximated = pipeline.mpc_graph(made.module, made.plan)
    return off(found, torch.cat([approximated(image) for image in images[:4]]))


def test_the_command_says_so_and_exits_1(tmp_path: Path, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", images.reshape(-1, 4, 8).numpy())
    torch.onnx.export(*two_blocks(), "model.onnx", dynamo=False, input_names=["x"])
    given = ["optimize", "model.onnx", "--calibration", "images.npy"]
    refused = CliRunner().invoke(app, [*given, "--tolerance", "0.000001"])
    assert refused.exit_code == 1 and "in fixed point" in refused.output and not Path("model.mpcc").exists()
    assert CliRunner().invoke(app, [*given, "--tolerance", "0"]).exit_code == 2
    assert CliRunner().invoke(app, given).exit_code == 0 and Path("model.mpcc").is_dir()
