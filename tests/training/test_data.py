"""Training data: what a SPEC means, splits that share nothing, augmentation, and bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mpcc.errors import ShapeError, UsageError
from mpcc.training import load_data
from mpcc.training.data import augmented
from mpcc.training.datasets import Augmentation

SHAPE = (1, 1, 8, 8)


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_parts_share_no_image_and_a_seed_repeats_them(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(100, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(100) % 3)
    found = load_data(str(tmp_path / "d.npz"), SHAPE, 0)
    parts = [rows(part.images) for part in (found.training, found.validation, found.test)]
    assert [len(part) for part in parts] == [72, 8, 20]
    assert len(set.union(*parts)) == 100
    again, other = (load_data(str(tmp_path / "d.npz"), SHAPE, seed) for seed in (0, 1))
    assert torch.equal(found.training.images, again.training.images)
    assert not torch.equal(found.training.images, other.training.images)


def test_the_digits_that_the_example_holds_out_are_the_test_images_of_every_seed() -> None:
    held_out = np.load(Path(__file__).parents[2] / "examples/digits_vit/heldout.npz")
    for seed in (0, 1):
        test = load_data("digits", SHAPE, seed).test
        np.testing.assert_allclose(test.images.numpy(), held_out["images"], atol=1e-6)
        np.testing.assert_array_equal(test.labels.numpy(), held_out["labels"])


def test_an_image_folder_has_a_folder_for_each_class(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(15):
            image.new("L", (8, 8), 10 * number + (100 if label == "dog" else 0)).save(tmp_path / label / f"{number}.png")
    found = load_data(str(tmp_path), SHAPE, 0)
    assert sorted({int(label) for label in found.training.labels}) == [0, 1]
    assert len(found.training) + len(found.validation) + len(found.test) == 30
    with pytest.raises(UsageError, match="each class"):
        load_data(str(tmp_path / "cat"), SHAPE, 0)


def test_augmentation_moves_images_and_repeats_with_its_generator() -> None:
    image = torch.arange(64.0).reshape(1, 1, 8, 8).expand(32, -1, -1, -1)
    made = [augmented(image, Augmentation(2, True), torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*made) and made[0].shape == image.shape
    assert not torch.equal(made[0], image)
    flipped = augmented(image, Augmentation(0, True), torch.Generator().manual_seed(0))
    assert {tuple(row.tolist()) for row in flipped[:, 0, 0]} == {tuple(range(8)), tuple(range(7, -1, -1))}
    assert torch.equal(augmented(image, Augmentation(), torch.Generator()), image)


def test_bad_data_is_one_clear_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "nameless.npz", x=np.zeros(3))
    np.savez(tmp_path / "few.npz", images=np.zeros((2, 1, 8, 8)), labels=np.zeros(2))
    np.savez(tmp_path / "wide.npz", images=np.zeros((50, 1, 9, 9)), labels=np.zeros(50))
    np.savez(tmp_path / "short.npz", images=np.zeros((50, 1, 8, 8)), labels=np.zeros(40))
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    for name, kind, text in (
        ("nameless.npz", UsageError, "images"),
        ("few.npz", UsageError, "too few"),
        ("wide.npz", ShapeError, "the model takes"),
        ("short.npz", ShapeError, "40 labels"),
        ("broken.npz", UsageError, "readable"),
        ("missing.npz", UsageError, "no such file"),
    ):
        with pytest.raises(kind, match=text):
            load_data(str(tmp_path / name), SHAPE, 0)
    for spec in ("digitz", "nosuchmodule:function"):
        with pytest.raises(UsageError):
            load_data(spec, SHAPE, 0)
