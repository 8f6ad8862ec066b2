"""An epoch shows every image once, moved the same way however many processes share the batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from mpcc.training.data import Part
from mpcc.training.datasets import Augmentation
from mpcc.training.epoch import Epoch
from mpcc.training.group import CPU, Group
from tests.models.tuning import tuning

COUNT, BATCH = 24, 8


def epoch(number: int = 0, how: Augmentation = Augmentation(shift=1, flip=True)) -> Epoch:  # noqa: B008  (frozen)
    images = torch.arange(COUNT * 16.0).reshape(COUNT, 1, 4, 4)
    order, draws = (torch.Generator().manual_seed(10 * number + use) for use in (1, 2))
    return Epoch(number, Part(images, torch.arange(COUNT)), how, order, draws, CPU)


def test_every_image_is_shown_once() -> None:
    labels = torch.cat([epoch().batch(start, start + BATCH)[1] for start in range(0, COUNT, BATCH)])
    assert sorted(labels.tolist()) == list(range(COUNT)) and labels.tolist() != list(range(COUNT))


def test_processes_share_a_batch() -> None:
    whole, labels = epoch().batch(0, BATCH)
    for rank in range(2):
        images, own = epoch().batch(0, BATCH, rank, 2)
        assert torch.equal(images, whole[rank::2]) and torch.equal(own, labels[rank::2])


def test_each_epoch_moves_images_otherwise() -> None:
    shown = [epoch(number).batch(0, COUNT) for number in (0, 1)]
    one, other = (dict(zip(labels.tolist(), images, strict=True)) for images, labels in shown)
    assert any(not torch.equal(one[label], other[label]) for label in one)
    plain, labels = epoch(0, Augmentation()).batch(0, COUNT)
    assert torch.equal(plain, torch.arange(COUNT * 16.0).reshape(COUNT, 1, 4, 4)[labels])


def test_a_training_may_go_on_with_another_number_of_processes(tmp_path: Path) -> None:
    setup = tuning(tmp_path, "relu-softmax").setup
    assert replace(setup, group=Group(1, 2)).identity() == setup.identity()
