"""Pictures into inputs: as Pillow resamples, and as other tools describe it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcc.client.configurations import preprocess_of
from mpcc.client.preprocess import Preprocess
from mpcc.errors import ShapeError

IMAGENET = {"channels": "RGB", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)


@pytest.mark.parametrize("interpolation", ["box", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(20, 30), (17, 23), (64, 96), (40, 60), (1, 1)])
def test_resampling_is_that_of_pillow(interpolation: str, size: tuple[int, int]) -> None:
    """Within what rounding to whole grey levels, twice, is off by."""
    images = pytest.importorskip("PIL.Image")
    kind = {"box": images.Resampling.BOX, "bilinear": images.Resampling.BILINEAR, "bicubic": images.Resampling.BICUBIC}
    expected = np.asarray(images.fromarray(PICTURE).resize(size[::-1], kind[interpolation])).astype(float)
    plain = {**IMAGENET, "mean": [0, 0, 0], "std": [1, 1, 1], "rescale": 1}
    made = Preprocess.read({**plain, "resize": list(size), "interpolation": interpolation})
    assert np.abs(made(PICTURE).transpose(1, 2, 0) - expected).max() <= 1.6


def test_the_usual_pipeline() -> None:
    """The shorter side resized, the middle cut out, normalised."""
    made = Preprocess.read({**IMAGENET, "resize": 20, "crop": [16, 16]})
    found = made(PICTURE)
    assert found.shape == (3, 16, 16) and made.size == (16, 16)
    whole = Preprocess.read({**IMAGENET, "resize": [20, 30]})(PICTURE)
    assert np.array_equal(found, whole[:, 2:18, 7:23])


def test_grey_colour_and_transparency() -> None:
    grey = Preprocess.read({"channels": "L", "mean": [0], "std": [1], "rescale": 1})
    assert grey(np.full((2, 2, 3), 100, np.uint8)) == pytest.approx(np.full((1, 2, 2), 100.0))
    clear = np.zeros((2, 2, 4), np.uint8)
    assert grey(clear) == pytest.approx(np.full((1, 2, 2), 255.0))
    colour = Preprocess.read({**IMAGENET, "mean": [0, 0, 0], "std": [1, 1, 1], "rescale": 1})
    assert colour(np.full((2, 2), 7, np.uint8)) == pytest.approx(np.full((3, 2, 2), 7.0))


@pytest.mark.parametrize("shape", [(2,), (2, 2, 2), (0, 2), (2, 2, 3, 1)])
def test_what_is_no_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="picture of shape"):
        Preprocess.read(IMAGENET)(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "change",
    [
        {"channels": "CMYK"}, {"mean": [1]}, {"std": [1, 1, 0]}, {"std": [1, 1, float("nan")]}, {"resize": [0, 1]},
        {"resize": [1, 2, 3]}, {"crop": [3]}, {"interpolation": "lanczos"}, {"rescale": "x"}, {"labels": [1]}, {"what": 1},
        {"resize": 10**9}, {"mean": None},
    ],
)  # fmt: skip
def test_fields_of_the_wrong_kind(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="preprocessing"):
        Preprocess.read({**IMAGENET, **change})


def test_what_is_written_is_read_again() -> None:
    made = Preprocess.read({**IMAGENET, "resize": 256, "crop": [224, 224], "interpolation": "bicubic", "labels": ["a", "b"]})
    assert Preprocess.read(json.loads(json.dumps(made.document()))) == made


def test_configurations_of_timm_and_transformers() -> None:
    timm = {
        "architecture": "vit_tiny_patch16_224", "label_names": ["a"],
        "pretrained_cfg": {
            "input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3,
        },
    }  # fmt: skip
    made = preprocess_of(timm)
    assert (made.resize, made.crop, made.interpolation, made.labels) == ((248,), (224, 224), "bicubic", ("a",))
    hugging = {
        "do_resize": True, "size": {"height": 224, "width": 224}, "resample": 2, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    made = preprocess_of(hugging)
    assert (made.resize, made.crop, made.interpolation) == ((224, 224), (), "bilinear")
    shortest = hugging | {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224, "resample": 3}
    made = preprocess_of(shortest)
    assert (made.resize, made.crop, made.interpolation) == ((256,), (224, 224), "bicubic")
    with pytest.raises(ValueError, match="interpolation"):
        preprocess_of(hugging | {"resample": 1})


def test_that_of_the_digits_gives_back_its_images() -> None:
    """A held-out image as grey levels, enlarged as a page would show it, becomes the model's input again."""
    folder = Path(__file__).parents[2] / "examples" / "digits_vit"
    made = preprocess_of(json.loads((folder / "preprocess.json").read_text()))
    images = np.load(folder / "heldout.npz")["images"][:5, 0]
    for image in images:
        pixels = np.rint((image * 6.018 + 4.886) * 255 / 16).astype(np.uint8)
        for picture in (pixels, np.kron(pixels, np.ones((20, 20), np.uint8))):
            assert np.abs(made(picture)[0] - image).max() < 0.01
