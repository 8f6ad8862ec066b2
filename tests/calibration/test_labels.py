"""Labels of calibration inputs: from arrays, from files, from the folders of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpcc.calibration.labels import load_labels
from mpcc.errors import UsageError


def test_a_file_of_one_row_is_the_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.array([2, 0, 1, 1, 0]))
    assert load_labels(str(tmp_path / "labels.npy"), None, 2, 2, 3).tolist() == [[2, 0], [1, 1]]  # what fills no call is left out


def test_of_an_archive_the_labels_are_found_beside_images(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, images=np.zeros((3, 4), np.float32), labels=np.array([1.0, 0.0, 1.0]))
    assert load_labels(path, path, 3, 1, 2).flatten().tolist() == [1, 0, 1]
    np.savez(path, images=np.zeros((3, 4), np.float32), y=np.array([1, 0, 1], np.uint8))
    assert load_labels(path, path, 3, 1, 2).flatten().tolist() == [1, 0, 1]
    np.savez(path, a=np.arange(3), b=np.arange(3))
    with pytest.raises(UsageError, match=r"which of these.*a \(3,\), b \(3,\)"):
        load_labels(path, path, 3, 1, 3)


def test_folders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, count in (("cat", 2), ("ant", 1), ("bee", 3)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("L", (4, 4)).save(tmp_path / name / f"{number}.png")
    assert load_labels("folders", tmp_path, 6, 1, 3).flatten().tolist() == [0, 1, 1, 1, 2, 2]
    with pytest.raises(UsageError, match="need an image folder"):
        load_labels("folders", "images.npy", 6, 1, 3)
    Image.new("L", (4, 4)).save(tmp_path / "loose.png")
    with pytest.raises(UsageError, match="loose.png is in no folder"):
        load_labels("folders", tmp_path, 7, 1, 3)
