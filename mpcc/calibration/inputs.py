"""Where calibration inputs come from: a tensor, an iterable, a NumPy file, an image folder, a function, or noise.

    load_calibration("images.npy", shapes)            array [examples, ...], already preprocessed
    load_calibration("data.npz", shapes)              the array whose shape fits
    load_calibration("photos/", shapes)               .png, .jpg ... made into inputs as `Preprocessing` says
    load_calibration("my_data:images", shapes)        what that function returns: a tensor or an iterable

`shapes` are the static shapes of the model's inputs. The result goes to `calibrate` and `record_ranges`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpcc.errors import MissingDependency, ShapeError, UsageError

from .ranges import Inputs

Shape = tuple[int, ...]
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})
MOST_IMAGES = 256
SYNTHETIC_EXAMPLES, FEWEST_EXAMPLES = 16, 2
SYNTHETIC_VALUES = 1 << 27
"""Values of all nodes over all calls: noise is not worth more time."""
SEED = 0
KINDS = "Give a .npy or .npz file, a folder of images, or `package.module:function`."


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes an input: shorter side to size / crop, centre crop, to [0, 1], (x - mean) / deviation.

    The means and deviations are those of ImageNet, as most published ViTs expect; one-channel images use 0.5 and 0.5.
    """

    crop: float = 0.875
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    deviation: tuple[float, ...] = (0.229, 0.224, 0.225)


def load_calibration(source: Any, shapes: Sequence[Shape], preprocessing: Preprocessing | None = None) -> Inputs:
    """The calibration inputs that `source` names or holds."""
    if isinstance(source, Tensor):
        return source
    if isinstance(source, np.ndarray):
        return _tensor(source, "the calibration array")
    if not isinstance(source, (str, Path)):
        if isinstance(source, Iterable):
            return list(source)
        raise UsageError(f"cannot read calibration inputs from an object of type {type(source).__name__}", hint=KINDS)
    path = Path(source)
    if path.is_dir():
        return _folder(path, shapes, preprocessing or Preprocessing())
    if path.suffix in (".npy", ".npz"):
        return _array_file(path, shapes)
    if ":" in str(source):
        return _function(str(source), shapes, preprocessing)
    if not path.exists():
        raise UsageError("the calibration file does not exist", where=str(source), hint=KINDS)
    raise UsageError(f"cannot read calibration inputs from a {path.suffix or 'suffixless'} file", where=path.name, hint=KINDS)


def synthetic_inputs(shapes: Sequence[Shape], values: int = 0) -> Inputs:
    """Normal noise with the spread of normalised images, one tuple per call. What is calibrated on it must say so.

    `values`: how many one call computes, over all nodes of the graph; the more, the fewer calls.
    """
    examples = max(FEWEST_EXAMPLES, min(SYNTHETIC_EXAMPLES, SYNTHETIC_VALUES // max(1, values)))
    generator = torch.Generator().manual_seed(SEED)
    return [tuple(torch.randn(shape, generator=generator) for shape in shapes) for _ in range(examples)]


def _array_file(path: Path, shapes: Sequence[Shape]) -> Tensor:
    try:
        loaded = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UsageError("the calibration file does not exist", where=str(path), hint=KINDS) from None
    except (ValueError, OSError, EOFError) as error:
        raise UsageError(f"cannot be read as a NumPy file ({error})", where=path.name) from None
    if isinstance(loaded, np.ndarray):
        return _tensor(loaded, path.name)
    arrays = {name: loaded[name] for name in loaded.files}
    fitting = {name: a for name, a in arrays.items() if any(tuple(a.shape[1:]) in (s, s[1:]) for s in shapes)}
    if len(fitting) != 1:
        seen = ", ".join(f"{name} {tuple(a.shape)}" for name, a in arrays.items())
        count = "no array fits" if not fitting else "more than one array fits"
        raise ShapeError(f"{count} the input {tuple(shapes[0])}: {seen}", where=path.name)
    return _tensor(next(iter(fitting.values())), path.name)


def _tensor(array: np.ndarray[Any, Any], where: str) -> Tensor:
    if array.dtype.kind not in "fiub":
        raise UsageError(f"an array of {array.dtype} does not hold numbers", where=where)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _function(name: str, shapes: Sequence[Shape], preprocessing: Preprocessing | None) -> Inputs:
    module, _, attribute = name.partition(":")
    try:
        function: Callable[[], Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"cannot be imported: {error}", where=name, hint=KINDS) from None
    made = function()
    if isinstance(made, (str, Path)) and ":" not in str(made):
        return load_calibration(made, shapes, preprocessing)
    if isinstance(made, (Tensor, np.ndarray)) or (isinstance(made, Iterable) and not isinstance(made, str)):
        return load_calibration(made, shapes, preprocessing)
    raise UsageError(f"returned a {type(made).__name__}, not tensors", where=name, hint=KINDS)


def _folder(path: Path, shapes: Sequence[Shape], preprocessing: Preprocessing) -> Tensor:
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] not in (1, 3):
        raise ShapeError("an image folder needs a model of one input [batch, 1 or 3, height, width]", where=path.name)
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGES)[:MOST_IMAGES]
    if not files:
        raise UsageError("no images in the folder", where=path.name, hint=", ".join(sorted(IMAGES)))
    return torch.stack([read_image(file, shapes[0][1:], preprocessing) for file in files])


def read_image(path: Path, shape: Shape, preprocessing: Preprocessing) -> Tensor:
    """One file as [channels, height, width]."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingDependency("images need Pillow", hint="pip install pillow") from None
    channels, height, width = shape
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB" if channels == 3 else "L")
    except (UnidentifiedImageError, OSError) as error:
        raise UsageError(f"cannot be read as an image ({error})", where=path.name) from None
    ratio = max(height / picture.height, width / picture.width) / preprocessing.crop
    size = (max(width, round(picture.width * ratio)), max(height, round(picture.height * ratio)))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    picture = picture.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + width, top + height))
    values = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).reshape(height, width, channels)
    mean, deviation = (preprocessing.mean, preprocessing.deviation) if channels == 3 else ((0.5,), (0.5,))
    return ((values - torch.tensor(mean)) / torch.tensor(deviation)).permute(2, 0, 1)
