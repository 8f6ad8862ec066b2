"""Training after the picks starts from the original model compensated for them, where that is better."""

from __future__ import annotations

from pathlib import Path

import torch

from mpcc.training.choose import load_weights
from mpcc.training.mixture import Picked, replaced, weights_of
from mpcc.training.start import compensated_weights, start_compensated
from mpcc.training.trainer import accuracy
from tests.models.tuning import tuning


def test_the_start_is_better_than_the_original_weights(tmp_path: Path) -> None:
    setup = tuning(tmp_path, "scaling").setup
    picks = {gate.site: (0,) * gate.positions for gate in setup.gates}
    student = replaced(setup.base, {gate.site: Picked(gate, picks[gate.site], setup.known) for gate in setup.gates})
    load_weights(student, weights_of(setup.base))
    was = accuracy(student, setup.data.validation, setup.static)
    assert start_compensated(setup, student, picks)
    assert accuracy(student, setup.data.validation, setup.static) > was


def test_weights_that_are_better_than_compensated_ones_are_kept(tmp_path: Path) -> None:
    setup = tuning(tmp_path, "scaling").setup
    picks = {gate.site: (0,) * gate.positions for gate in setup.gates}
    student = replaced(setup.base, {})  # nothing is replaced in it: compensated weights can only be worse
    before = {name: value.clone() for name, value in weights_of(student).items()}
    assert not start_compensated(setup, student, picks)
    assert all(torch.equal(value, before[name]) for name, value in weights_of(student).items())


def test_picks_that_replace_nothing_need_no_weights(tmp_path: Path) -> None:
    setup = tuning(tmp_path, "stock").setup
    assert compensated_weights(setup, {gate.site: (0,) * gate.positions for gate in setup.gates}) == {}
