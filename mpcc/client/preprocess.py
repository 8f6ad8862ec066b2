"""A picture into a model's input, at the client: resize, crop, rescale, normalise. Part of the bundle, so all clients agree.

    {"channels": "RGB", "resize": 256, "crop": [224, 224], "interpolation": "bicubic", "rescale": 0.00392156862745098,
     "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "labels": ["tench", "goldfish"]}

`resize`: the shorter side, or [height, width]; `crop`: [height, width], from the middle. A pixel 0..255 becomes
(pixel * rescale - mean) / std. Pictures are resampled here with the filters of Pillow's `resize`, in floating point, so that
this client and the one in JavaScript give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpcc.errors import ShapeError

Floats = NDArray[np.float64]
CHANNELS = {"L": 1, "RGB": 3}
LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, as Pillow converts to grey."""
MOST_SIDE = 1 << 14


def _box(x: Floats) -> Floats:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _triangle(x: Floats) -> Floats:
    return np.maximum(0.0, 1 - np.abs(x))


def _cubic(x: Floats) -> Floats:
    """Keys' cubic with a = -1/2 (IEEE Trans. ASSP 29(6), 1981, equation 4)."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


FILTERS: Mapping[str, tuple[float, Callable[[Floats], Floats]]] = {
    "box": (0.5, _box),
    "bilinear": (1.0, _triangle),
    "bicubic": (2.0, _cubic),
}
"""Interpolation -> (half its width in source pixels, where nothing is shrunk; the filter)."""


@dataclass(frozen=True)
class Preprocess:
    """See the head of this file."""

    channels: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: tuple[int, ...] = ()
    """(shorter side,), (height, width), or nothing."""
    crop: tuple[int, ...] = ()
    interpolation: str = "bilinear"
    rescale: float = 1 / 255
    labels: tuple[str, ...] = ()

    @staticmethod
    def read(document: Any) -> Preprocess:
        """From JSON. ValueError says which field is wrong."""
        known = {"channels", "mean", "std", "resize", "crop", "interpolation", "rescale", "labels"}
        if not isinstance(document, dict) or not {"channels", "mean", "std"} <= set(document) <= known:
            raise ValueError(f"preprocessing: an object with channels, mean, std and perhaps {', '.join(sorted(known))}")
        count = CHANNELS.get(_text(document["channels"], "channels"))
        if count is None:
            raise ValueError(f"preprocessing: channels is one of {', '.join(CHANNELS)}")
        resize = document.get("resize", [])
        made = Preprocess(
            document["channels"],
            _numbers(document["mean"], "mean", count),
            _numbers(document["std"], "std", count),
            _sizes([resize] if isinstance(resize, int) else resize, "resize", (0, 1, 2)),
            _sizes(document.get("crop", []), "crop", (0, 2)),
            _text(document.get("interpolation", "bilinear"), "interpolation"),
            _numbers([document.get("rescale", 1 / 255)], "rescale", 1)[0],
            tuple(_text(label, "labels") for label in _list(document.get("labels", []), "labels")),
        )
        if made.interpolation not in FILTERS:
            raise ValueError(f"preprocessing: interpolation is one of {', '.join(FILTERS)}")
        if not all(value > 0 for value in made.std):
            raise ValueError("preprocessing: std is positive")
        return made

    def document(self) -> dict[str, Any]:
        """As JSON."""
        found = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {key: value for key, value in found.items() if value != []}

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width of what becomes of every picture; nothing where they depend on the picture's own."""
        return self.crop or (self.resize if len(self.resize) == 2 else ())

    def __call__(self, picture: NDArray[Any]) -> Floats:
        """Pixels 0..255, [height, width] or [height, width, 1, 3 or 4] -> [channels, height', width']. ShapeError."""
        values = self._channels(picture.astype(np.float64))
        height, width = self._resized(*values.shape[1:])
        values = resampled(values, height, width, self.interpolation)
        if self.crop:
            values = cropped(values, *self.crop)
        mean, std = (np.array(numbers).reshape(-1, 1, 1) for numbers in (self.mean, self.std))
        result: Floats = (values * self.rescale - mean) / std
        return result

    def _channels(self, picture: Floats) -> Floats:
        if picture.ndim == 2:
            picture = picture[:, :, None]
        if picture.ndim != 3 or picture.shape[2] not in (1, 3, 4) or not all(0 < size <= MOST_SIDE for size in picture.shape):
            hint = "[height, width], or [height, width, channels] with 1, 3 or 4 channels"
            raise ShapeError(f"a picture of shape {list(picture.shape)}", hint=hint)
        if picture.shape[2] == 4:  # on white, as pages show it
            alpha = picture[:, :, 3:] / 255
            picture = picture[:, :, :3] * alpha + 255 * (1 - alpha)
        grey = picture.shape[2] == 1
        if self.channels == "L":
            return (picture if grey else (picture @ np.array(LUMA))[:, :, None]).transpose(2, 0, 1)
        return np.repeat(picture, 3, 2).transpose(2, 0, 1) if grey else picture.transpose(2, 0, 1)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if len(self.resize) == 2:
            return self.resize[0], self.resize[1]
        if len(self.resize) == 1:
            shorter = min(height, width)
            return max(1, height * self.resize[0] // shorter), max(1, width * self.resize[0] // shorter)
        return height, width


def resampled(values: Floats, height: int, width: int, interpolation: str) -> Floats:
    """[channels, h, w] -> [channels, height, width], in 0..255 after either side, as Pillow does it: first the width.

    Where a side shrinks the filter widens, so that nothing is skipped.
    """
    across: Floats = np.clip(values @ weights(values.shape[2], width, interpolation).T, 0.0, 255.0)
    down: Floats = np.clip(weights(values.shape[1], height, interpolation) @ across, 0.0, 255.0)
    return down


def weights(size: int, wanted: int, interpolation: str) -> Floats:
    """[wanted, size]: what each source pixel contributes to each resulting one."""
    if size == wanted:
        return np.eye(size)
    reach, shape = FILTERS[interpolation]
    ratio = size / wanted
    stretch = max(1.0, ratio)
    centres = (np.arange(wanted) + 0.5) * ratio
    distance = (np.arange(size)[None, :] + 0.5 - centres[:, None]) / stretch
    found = np.where(np.abs(distance) <= reach, shape(distance), 0.0)
    result: Floats = found / found.sum(1, keepdims=True)
    return result


def cropped(values: Floats, height: int, width: int) -> Floats:
    """The middle; black where the picture is smaller."""
    short = [max(0, wanted - size) for wanted, size in zip((height, width), values.shape[1:], strict=True)]
    if any(short):
        values = np.pad(values, ((0, 0), *((lack // 2, lack - lack // 2) for lack in short)))
    top, left = (values.shape[1] - height) // 2, (values.shape[2] - width) // 2
    return values[:, top : top + height, left : left + width]


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > 1 << 17:
        raise ValueError(f"preprocessing: {name} is a list")
    return value


def _numbers(value: Any, name: str, count: int) -> tuple[float, ...]:
    numbers = _list(value, name)
    if len(numbers) != count or any(type(one) not in (int, float) or not math.isfinite(one) for one in numbers):
        raise ValueError(f"preprocessing: {name} has {count} number{'s' if count > 1 else ''}")
    return tuple(float(one) for one in numbers)


def _sizes(value: Any, name: str, counts: tuple[int, ...]) -> tuple[int, ...]:
    sizes = _list(value, name)
    if len(sizes) not in counts or any(type(one) is not int or not 0 < one <= MOST_SIDE for one in sizes):
        raise ValueError(f"preprocessing: {name} has whole numbers from 1 to {MOST_SIDE}")
    return tuple(sizes)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or len(value) > 200:
        raise ValueError(f"preprocessing: {name} is text")
    return value
