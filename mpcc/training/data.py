"""Training data: what --data names, the seeded split into training, validation and test images, and augmentation.

    load_data("digits", (1, 1, 8, 8), seed=0)              a built-in set (see datasets)
    load_data("photos/", shape, seed=0)                    a folder per class; or such folders in train/ and in test/
    load_data("data.npz", shape, seed=0)                   images, labels; optionally test_images, test_labels
    load_data("my_data:training", shape, seed=0)           a function that returns a torch Dataset, or (training, test)

The model is trained on training images and selected on validation images; test images are only reported on.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpcc.calibration.inputs import IMAGES, Preprocessing, read_image
from mpcc.errors import ShapeError, UsageError

from .datasets import BUILT_IN, Augmentation, Labelled, built_in

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
MAX_VALIDATION = 5000
FORMS = "SPEC is one of " + ", ".join(BUILT_IN) + ", an image folder, an .npz file, or package.module:function."


@dataclass(frozen=True)
class Part:
    """Images [count, *shape of one] and labels [count]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int | None) -> Part:
        return self if count is None else Part(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class Data:
    """The three disjoint parts, and how training images are augmented."""

    training: Part
    validation: Part
    test: Part
    augmentation: Augmentation


def load_data(spec: str, shape: Sequence[int], seed: int, limit: int | None = None) -> Data:
    """The images that `spec` names for a model of input `shape` [batch, ...]; at most `limit` of them for training."""
    found = _labelled(spec, tuple(shape))
    for images in (found.images, *(found.test or ())[:1]):
        if tuple(images.shape[1:]) != tuple(shape[1:]):
            raise ShapeError(f"images of shape {tuple(images.shape[1:])}, the model takes {tuple(shape[1:])}", where=spec)
    if len(found.images) != len(found.labels):
        raise ShapeError(f"{len(found.images)} images but {len(found.labels)} labels", where=spec)
    order = torch.randperm(len(found.images), generator=torch.Generator().manual_seed(seed))
    images, labels = found.images[order], found.labels[order]
    if found.test is None:
        count = round(TEST_SHARE * len(images))
        test, images, labels = Part(images[:count], labels[:count]), images[count:], labels[count:]
    else:
        test = Part(*found.test)
    validation = min(MAX_VALIDATION, round(VALIDATION_SHARE * len(images)))
    if min(validation, len(test)) < 1 or len(images) - validation < 1:
        raise UsageError(f"{len(order)} images are too few for a training, a validation and a test part", where=spec)
    training = Part(images[validation:], labels[validation:]).first(limit)
    return Data(training, Part(images[:validation], labels[:validation]), test, found.augmentation)


def augmented(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Images [count, channels, height, width], each shifted and mirrored at random by itself; borders are repeated."""
    return moved(images, drawn(len(images), how, generator)) if moves(images, how) else images


def moves(images: Tensor, how: Augmentation) -> bool:
    """Whether these images are shifted or mirrored at all."""
    return images.dim() == 4 and (how.shift > 0 or how.flip)


def drawn(count: int, how: Augmentation, generator: torch.Generator) -> Tensor:
    """[count, 3]: whether an image is mirrored, and how far it is shifted down and across."""
    mirrored, shifts = torch.zeros(count, 1), [torch.zeros(count, 1)] * 2
    if how.flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
    if how.shift:
        shifts = [torch.randint(-how.shift, how.shift + 1, (count, 1), generator=generator) for _ in range(2)]
    return torch.cat([one.long() for one in (mirrored, *shifts)], 1)


def moved(images: Tensor, how: Tensor) -> Tensor:
    """The images [count, channels, height, width], moved as `drawn` says."""
    (height, width), device = images.shape[-2:], images.device
    mirrored, down, across = torch.split(how, 1, 1)
    places = torch.arange(width, device=device).expand(len(images), -1)
    columns = (torch.where(mirrored > 0, places.flip(1), places) + across).clamp(0, width - 1)
    rows = (torch.arange(height, device=device) + down).clamp(0, height - 1)
    each = torch.arange(len(images), device=device)[:, None, None]
    return images[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _labelled(spec: str, shape: tuple[int, ...]) -> Labelled:
    if spec in BUILT_IN:
        return built_in(spec)
    path = Path(spec)
    if path.is_dir():
        return _folder(path, shape)
    if path.suffix == ".npz":
        return _npz(path)
    if ":" in spec:
        return _function(spec)
    raise UsageError(f"unknown data {spec!r}", where="--data", hint=FORMS)


def _npz(path: Path) -> Labelled:
    try:
        with np.load(path, allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise UsageError("no such file", where=str(path), hint=FORMS) from None
    except (ValueError, OSError, EOFError) as error:
        raise UsageError(f"not a readable NumPy file ({error})", where=path.name) from None
    if not {"images", "labels"} <= set(arrays):
        raise UsageError(f"needs the arrays `images` and `labels`, has {', '.join(arrays)}", where=path.name)

    def pair(prefix: str) -> tuple[Tensor, Tensor]:
        images, labels = arrays[f"{prefix}images"], arrays[f"{prefix}labels"]
        return torch.from_numpy(images.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))

    return Labelled(*pair(""), pair("test_") if {"test_images", "test_labels"} <= set(arrays) else None)


def _function(spec: str) -> Labelled:
    module, _, attribute = spec.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"cannot be imported or called: {error}", where=spec, hint=FORMS) from None
    if isinstance(made, tuple) and len(made) == 2 and not isinstance(made[0], Tensor):
        return Labelled(*_dataset(made[0], spec), _dataset(made[1], spec))
    return Labelled(*_dataset(made, spec))


def _dataset(given: Any, spec: str) -> tuple[Tensor, Tensor]:
    try:
        pairs = [given[index] for index in range(len(given))]
        return torch.stack([torch.as_tensor(x).float() for x, _ in pairs]), torch.tensor([int(y) for _, y in pairs])
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"did not return a Dataset of (image, label) pairs of one shape: {error}", where=spec) from None


def _folder(path: Path, shape: tuple[int, ...]) -> Labelled:
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise ShapeError("an image folder needs a model with one input [batch, 1 or 3, height, width]", where=path.name)
    how = Augmentation(shift=max(1, shape[-1] // 16), flip=True)
    if (path / "train").is_dir() and (path / "test").is_dir():
        classes = _classes(path / "train")
        return Labelled(*_read(path / "train", classes, shape), _read(path / "test", classes, shape), how)
    return Labelled(*_read(path, _classes(path), shape), None, how)


def _classes(path: Path) -> list[str]:
    found = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    if len(found) < 2:
        raise UsageError("needs a folder of images for each class, and at least two classes", where=path.name)
    return found


def _read(path: Path, classes: Sequence[str], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    images, labels = [], []
    for label, name in enumerate(classes):
        files = sorted(f for f in (path / name).rglob("*") if f.suffix.lower() in IMAGES)
        images += [read_image(file, shape[1:], Preprocessing()) for file in files]
        labels += [label] * len(files)
    if not images:
        raise UsageError("no images in the folder", where=path.name, hint=", ".join(sorted(IMAGES)))
    return torch.stack(images), torch.tensor(labels)
