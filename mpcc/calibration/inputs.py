"""Where calibration inputs come from: a tensor, an iterable, a NumPy file, an image folder, a function, or noise.

    load_calibration("images.npy", shapes)            array [examples, ...], already preprocessed
    load_calibration("data.npz", shapes)              the arrays named as the inputs, else those whose shapes fit
    load_calibration("a=photos/,b=b.npy", shapes)     a source for each input, by name
    load_calibration("photos/", shapes)               .png, .jpg ... made into inputs as `Preprocessing` says
    load_calibration("my_data:images", shapes)        what that function returns: a tensor or an iterable

`shapes` are the static shapes of the model's inputs. The result goes to `calibrate` and `record_ranges`.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpcc.errors import Assumed, MissingDependency, ShapeError, UsageError

from .arrays import Array, as_input, checked, read_arrays
from .ranges import Inputs

Shape = tuple[int, ...]
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})
MOST_IMAGES = 256
MOST_NAMED = 8
"""Unreadable images that a warning names."""
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

    def said(self, channels: int) -> str:
        """In words, for whoever did not ask for it."""
        mean, deviation = (self.mean, self.deviation) if channels == 3 else ((0.5,), (0.5,))
        numbers = f"mean {', '.join(map(str, mean))} and deviation {', '.join(map(str, deviation))}"
        return (
            f"shorter side to size / {self.crop}, centre crop, normalised with {numbers}. If your model was trained otherwise, "
            "give inputs as it takes them, in a .npy file."
        )


def load_calibration(
    source: Any, shapes: Sequence[Shape], preprocessing: Preprocessing | None = None, names: Sequence[str] = ()
) -> Inputs:
    """The calibration inputs that `source` names or holds, one for each of `shapes`; `names` are the inputs' names.

    Errors: UsageError (no such source, not readable), ShapeError (what does not fit, or nothing at all), RangeError
    (NaN, infinity, numbers beyond the fixed point of a private program).
    """
    if isinstance(source, Tensor):
        return checked(source, "the calibration tensor")
    if isinstance(source, np.ndarray):
        return as_input(source, "the calibration array")
    if not isinstance(source, (str, Path)):
        if isinstance(source, Iterable):
            return _entries(source, shapes, names)
        raise UsageError(f"cannot read calibration inputs from an object of type {type(source).__name__}", hint=KINDS)
    path = Path(source)
    if len(names) > 1 and "=" in str(source) and not path.exists():
        return _by_name(str(source), shapes, names, preprocessing or Preprocessing())
    if path.is_dir():
        return _folder(path, shapes, preprocessing or Preprocessing())
    if path.suffix in (".npy", ".npz"):
        return _array_file(path, shapes, names)
    if ":" in str(source):
        return _function(str(source), shapes, preprocessing)
    if not path.exists():
        raise UsageError("the calibration file does not exist", where=str(source), hint=KINDS)
    raise UsageError(f"cannot read calibration inputs from a {path.suffix or 'suffixless'} file", where=path.name, hint=KINDS)


def _entries(source: Iterable[Any], shapes: Sequence[Shape], names: Sequence[str]) -> Inputs:
    """What an iterable yields: tensors, tuples of one tensor for each input, or the batches of a DataLoader.

    A batch may have more (labels), which is left out, or be a mapping with the inputs' names. Of a DataLoader, as many
    examples are taken as of a folder.
    """
    found: list[Any] = []
    examples, most = 0, MOST_IMAGES if hasattr(source, "dataset") else None
    for entry in source:
        if isinstance(entry, Mapping):
            missing = [name for name in names if name not in entry]
            if missing or not names:
                raise UsageError(f"a batch has {', '.join(map(str, entry))}, not the inputs {', '.join(missing)}", hint=KINDS)
            entry = [entry[name] for name in names]
        if isinstance(entry, (tuple, list)) and len(entry) >= len(shapes) and all(isinstance(x, Tensor) for x in entry):
            values = list(entry[: len(shapes)])
            fits = all(tuple(value.shape) == tuple(shape) for value, shape in zip(values, shapes, strict=True))
            if len(values) == 1:
                entry = values[0]
            elif fits:
                entry = tuple(values)
            else:
                found += _columns(values, shapes, "a batch")
                entry = None
        if entry is not None:
            found.append(entry)
        first = found[-1][0] if isinstance(found[-1], tuple) else found[-1]
        examples += first.shape[0] if isinstance(first, Tensor) and first.dim() else 1
        if most is not None and examples >= most:
            break
    return found


def synthetic_inputs(shapes: Sequence[Shape], values: int = 0) -> Inputs:
    """Normal noise with the spread of normalised images, one tuple per call. What is calibrated on it must say so.

    `values`: how many one call computes, over all nodes of the graph; the more, the fewer calls.
    """
    examples = max(FEWEST_EXAMPLES, min(SYNTHETIC_EXAMPLES, SYNTHETIC_VALUES // max(1, values)))
    generator = torch.Generator().manual_seed(SEED)
    return [tuple(torch.randn(shape, generator=generator) for shape in shapes) for _ in range(examples)]


def _array_file(path: Path, shapes: Sequence[Shape], names: Sequence[str]) -> Inputs:
    arrays = read_arrays(path)
    if list(arrays) == [""] and len(shapes) == 1:
        return as_input(arrays[""], path.name)
    chosen = chosen_arrays(arrays, shapes, names, path.name)
    if len(chosen) == 1:
        return as_input(chosen[0], path.name)
    return _columns([as_input(array, path.name) for array in chosen], shapes, path.name)


def chosen_arrays(arrays: Mapping[str, Array], shapes: Sequence[Shape], names: Sequence[str], where: str) -> list[Array]:
    """The array of each input: by the inputs' names if all are there, else the one that fits its shape."""
    if names and set(names) <= set(arrays):
        return [arrays[name] for name in names]
    chosen = []
    for shape in shapes:
        fitting = [array for array in arrays.values() if _fits(array.shape, shape)]
        if len(fitting) != 1:
            seen = ", ".join(f"{name} {tuple(array.shape)}" for name, array in arrays.items())
            count = "no array fits" if not fitting else "more than one array fits"
            hint = f"Name the arrays after the inputs: {', '.join(names)}." if names else None
            raise ShapeError(f"{count} the input {tuple(shape)}: {seen}", where=where, hint=hint)
        chosen.append(fitting[0])
    return chosen


def _fits(found: Sequence[int], shape: Shape) -> bool:
    """[examples, ...], [calls, *shape] or the very shape."""
    return tuple(found) == shape or tuple(found[1:]) in (shape, shape[1:])


def _columns(values: Sequence[Tensor], shapes: Sequence[Shape], where: str) -> Inputs:
    """One call after another of several inputs; an input of exactly its static shape is the same in every call."""
    columns = []
    for value, shape in zip(values, shapes, strict=True):
        if not _fits(value.shape, shape):
            raise ShapeError(f"an array of shape {tuple(value.shape)} for the input {tuple(shape)}", where=where)
        if tuple(value.shape) == shape:
            columns.append(value[None])
        elif tuple(value.shape[1:]) == shape:
            columns.append(value)
        else:
            columns.append(value[: len(value) // shape[0] * shape[0]].reshape(-1, *shape))
    most = max(map(len, columns))
    if any(len(column) not in (1, most) for column in columns) or not min(map(len, columns)):
        counts = ", ".join(str(len(column)) for column in columns)
        raise ShapeError(f"the inputs have different numbers of examples: {counts}", where=where)
    return list(zip(*(column.expand(most, *column.shape[1:]) for column in columns), strict=True))


def _by_name(text: str, shapes: Sequence[Shape], names: Sequence[str], preprocessing: Preprocessing) -> Inputs:
    """image=photos/,mask=masks.npy: a source for each input."""
    given = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    if set(given) != set(names):
        raise UsageError(f"{', '.join(given)} are not the inputs of the model: {', '.join(names)}", where="--calibration")
    found = []
    for name, shape in zip(names, shapes, strict=True):
        value = load_calibration(given[name], [shape], preprocessing)
        if not isinstance(value, Tensor):
            raise UsageError("this source is not one array", where=f"{name}={given[name]}", hint=KINDS)
        found.append(value)
    return _columns(found, shapes, text)


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
    there = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGES)
    if not there:
        raise UsageError("no images in the folder", where=path.name, hint=", ".join(sorted(IMAGES)))
    files = evenly(there, MOST_IMAGES)
    warnings.warn(f"{path}: {len(files)} of {len(there)} images, {preprocessing.said(shapes[0][1])}", Assumed, stacklevel=2)
    read: list[Tensor] = []
    unread: list[str] = []
    for file in files:
        try:
            read.append(read_image(file, shapes[0][1:], preprocessing))
        except UsageError as error:
            unread.append(f"{file.name} {error.what}")
    if not read:
        raise UsageError(f"none of {len(files)} images can be read: {unread[0]}", where=path.name)
    if unread:
        more = f", and {len(unread) - MOST_NAMED} more" if len(unread) > MOST_NAMED else ""
        warnings.warn(f"{path}: left out: {'; '.join(unread[:MOST_NAMED])}{more}", Assumed, stacklevel=2)
    return torch.stack(read)


def evenly(found: Sequence[Path], most: int) -> list[Path]:
    """At most so many, from all of the order: a folder sorted by class gives some of each."""
    return list(found) if len(found) <= most else [found[step * len(found) // most] for step in range(most)]


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
