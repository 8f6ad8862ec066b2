"""Compensation as a stage of optimize: on by default, kept in plan and bundle, repeated from a plan, said in JSON and report."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import mpcc
from mpcc.calibration import calls
from mpcc.cli import app
from mpcc.errors import RangeError, UsageError
from mpcc.pipeline import Optimized
from mpcc.verify.verification import Verification
from tests.models.two_blocks import two_blocks

RECIPE = "scaling"


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.einsum("ni,ijk->njk", torch.randn(96, 5), torch.randn(5, 4, 8))


def optimized(inputs: torch.Tensor, **how: Any) -> Optimized:
    model, _ = two_blocks()
    return mpcc.optimize(model, (inputs[:1],), calibration=inputs, machine="reference", **how)


@pytest.fixture(scope="module")
def made(inputs: torch.Tensor) -> Optimized:
    return optimized(inputs, recipe=RECIPE)


def test_recipes_are_compensated_and_cost_the_same(made: Optimized, inputs: torch.Tensor) -> None:
    plain = optimized(inputs, recipe=RECIPE, compensate=False)
    assert plain.compensation is None
    assert "compensation" not in plain.plan.notes
    assert made.compensation is not None
    assert made.compensation.taken
    assert made.compensation.loss_after < made.compensation.loss_before
    assert made.estimate.rounds == plain.estimate.rounds
    model, _ = two_blocks()
    with torch.no_grad():
        expected = torch.cat([model(one[None]) for one in inputs])

    def off(one: Optimized) -> float:
        return float((one.executable().emulate(inputs, check=False) - expected).square().mean())

    assert off(made) < 0.5 * off(plain)


def test_its_plan_gives_the_same_program_again(made: Optimized, inputs: torch.Tensor) -> None:
    again = optimized(inputs, plan=made.plan)
    assert again.plan.key == made.plan.key
    assert all(torch.equal(value, again.program.constants[name]) for name, value in made.program.constants.items())
    model, _ = two_blocks()
    compiled = mpcc.compile(model, (inputs[:1],), plan=made.plan, calibration=inputs)
    assert isinstance(compiled, mpcc.Executable)
    assert all(torch.equal(value, compiled.program.constants[name]) for name, value in made.program.constants.items())
    bare = optimized(inputs, plan=made.plan, compensate=False)
    assert bare.compensation is None


def test_weights_that_cannot_be_made_again_are_said_to_be_missing(
    made: Optimized, inputs: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **how: Any) -> Any:
        raise RangeError("too large")

    monkeypatch.setattr("mpcc.pipeline.compensation.compensated", fail)
    model, _ = two_blocks()
    with pytest.warns(UserWarning, match="made for compensated weights. Not compensated: too large"):
        mpcc.compile(model, (inputs[:1],), plan=made.plan, calibration=inputs)


def test_a_bundle_holds_the_new_weights_and_is_verified_with_its_choices_in_place(
    made: Optimized, inputs: torch.Tensor, tmp_path: Path
) -> None:
    place = made.save(tmp_path / "made.mpcc")
    assert "Compensated without training" in (place / "report.html").read_text("utf-8")
    loaded = mpcc.load(place)
    assert torch.equal(loaded.emulate(inputs[:4], check=False), made.executable().emulate(inputs[:4], check=False))
    assert loaded.reference is not None
    found = Verification(loaded, calls(loaded.reference, inputs[:4]))
    plain, approximated = torch.cat(found.plain()), torch.cat(found.approximated())
    torch.testing.assert_close(plain, approximated, atol=1e-2, rtol=0)


def test_without_enough_inputs_of_ones_own_it_is_only_tried_if_asked(inputs: torch.Tensor) -> None:
    some = optimized(inputs[:8], recipe=RECIPE)
    assert some.compensation is not None
    assert not some.compensation.taken
    assert "--compensate" in str(some.compensation)
    asked = optimized(inputs[:8], recipe=RECIPE, compensate=True)
    assert asked.compensation is not None
    assert "--compensate" not in str(asked.compensation)


def test_reconstruction_is_noted_and_not_combined_with_its_contrary(inputs: torch.Tensor) -> None:
    found = optimized(inputs, recipe=RECIPE, reconstruct=5)
    assert found.compensation is not None
    assert found.compensation.steps == found.plan.notes["compensation"]["steps"] == 5
    with pytest.raises(UsageError, match="starts from compensation"):
        optimized(inputs, recipe=RECIPE, reconstruct=5, compensate=False)
    with pytest.raises(UsageError, match="-1 steps"):
        optimized(inputs, recipe=RECIPE, reconstruct=-1)
    bounded = optimized(inputs, reconstruct=5)
    assert bounded.compensation is not None
    assert "no choice of the plan is structural" in str(bounded.compensation)


def test_the_command_says_what_was_done(inputs: torch.Tensor, tmp_path: Path) -> None:
    model, _ = two_blocks()
    with warnings.catch_warnings():  # torch announces its next exporter
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (inputs[:1],), tmp_path / "model.onnx", dynamo=False)
    np.save(tmp_path / "inputs.npy", inputs.numpy())
    command = ["optimize", str(tmp_path / "model.onnx"), "--calibration", str(tmp_path / "inputs.npy"), "--recipe", RECIPE,
               "--machine", "reference", "-o", str(tmp_path / "made.mpcc")]  # fmt: skip
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert found["compensation"]["taken"]
    assert found["compensation"]["judged"] > 0
    assert found["plan"]["notes"]["compensation"]["taken"]
    off = json.loads(CliRunner().invoke(app, [*command, "--json", "--no-compensate"]).stdout)
    assert off["compensation"] is None


@pytest.mark.parametrize("more", [["--pareto", "--compensate"], ["--no-compensate", "--reconstruct", "5"]])
def test_what_does_not_go_together_is_refused_before_anything_is_computed(more: list[str]) -> None:
    found = CliRunner().invoke(app, ["optimize", "examples/digits_vit/model.onnx", *more])
    assert found.exit_code != 0
    assert isinstance(found.exception, UsageError | SystemExit)
