"""Calibration inputs from every source, and one clear message for every bad one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mpcc.calibration import load_calibration, synthetic_inputs
from mpcc.errors import ShapeError, UsageError

SHAPES = [(1, 3, 8, 8)]
IMAGES = np.random.default_rng(0).normal(size=(5, 3, 8, 8))


def test_a_tensor_and_an_array_are_taken_as_they_are() -> None:
    tensor = torch.zeros(5, 3, 8, 8)
    assert load_calibration(tensor, SHAPES) is tensor
    assert torch.equal(load_calibration(IMAGES, SHAPES), torch.tensor(IMAGES, dtype=torch.float32))


def test_an_iterable_becomes_a_list() -> None:
    assert load_calibration(iter([1, 2]), SHAPES) == [1, 2]


def test_a_npy_file(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    assert load_calibration(tmp_path / "x.npy", SHAPES).shape == (5, 3, 8, 8)


def test_of_a_npz_file_the_array_that_fits(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", labels=np.arange(5), pictures=IMAGES)
    assert load_calibration(str(tmp_path / "x.npz"), SHAPES).shape == (5, 3, 8, 8)


def test_a_folder_of_images_of_any_size(tmp_path: Path) -> None:
    for name, size in (("a.png", (20, 10)), ("b.jpg", (9, 30))):
        Image.new("RGB", size, (255, 0, 0)).save(tmp_path / name)
    loaded = load_calibration(tmp_path, SHAPES)
    assert loaded.shape == (2, 3, 8, 8)
    assert loaded[0, 0].mean() == pytest.approx((1 - 0.485) / 0.229, abs=1e-3)


def test_what_a_function_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_images.py").write_text("import numpy as np\ndef ten():\n    return np.ones((10, 3, 8, 8))\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_calibration("my_images:ten", SHAPES).shape == (10, 3, 8, 8)
    sys.modules.pop("my_images")


def test_synthetic_inputs_are_the_same_every_time_and_have_the_shapes() -> None:
    calls = synthetic_inputs([(1, 3, 8, 8), (2,)])
    assert [tuple(x.shape) for x in calls[0]] == [(1, 3, 8, 8), (2,)]
    assert all(torch.equal(a, b) for a, b in zip(calls[3], synthetic_inputs([(1, 3, 8, 8), (2,)])[3], strict=True))


def broken_npy(folder: Path) -> Path:
    (folder / "x.npy").write_bytes(b"\x93NUMPY\x01")
    return folder / "x.npy"


def words(folder: Path) -> Path:
    np.save(folder / "words.npy", np.array(["a", "b"]))
    return folder / "words.npy"


def no_fit(folder: Path) -> Path:
    np.savez(folder / "x.npz", images=np.zeros((5, 1, 8, 8)))
    return folder / "x.npz"


def not_an_image(folder: Path) -> Path:
    (folder / "x.png").write_text("no picture")
    return folder


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda folder: folder / "none.npy", UsageError, "does not exist|no such file"),
        (lambda folder: folder / "none", UsageError, "does not exist|no such file"),
        (lambda folder: folder, UsageError, "no images"),
        (lambda folder: "no_such_module:f", UsageError, "cannot be imported"),
        (lambda folder: 3, UsageError, "of type int"),
        (broken_npy, UsageError, "not a readable NumPy file"),
        (words, UsageError, "not numbers"),
        (no_fit, ShapeError, "no array fits"),
        (not_an_image, UsageError, "cannot be read as an image"),
    ],
)
def test_bad_sources_are_one_message(make, error, message, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        load_calibration(make(tmp_path), SHAPES)
