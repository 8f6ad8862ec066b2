"""Preprocessing as other tools write it down: Hugging Face's preprocessor_config.json, timm's config.json, our own.

    preprocess_of(json.loads(text))      ValueError where nothing of it can be recognised
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .preprocess import Preprocess

RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""PIL.Image.Resampling."""


def preprocess_of(document: Any) -> Preprocess:
    """The preprocessing that a configuration describes. ValueError says what is missing, or not supported."""
    try:
        return _recognised(document)
    except KeyError as error:
        raise ValueError(f"{error} is missing") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"a field of another type: {error}") from None


def _recognised(document: Any) -> Preprocess:
    if not isinstance(document, dict):
        raise ValueError("a JSON object is needed")
    if "pretrained_cfg" in document:
        return _timm(document["pretrained_cfg"], document)
    if "input_size" in document and "mean" in document:
        return _timm(document, document)
    if "image_mean" in document or "do_normalize" in document:
        return _hugging_face(document)
    return Preprocess.read(document)


def _timm(found: Mapping[str, Any], outer: Mapping[str, Any]) -> Preprocess:
    """`input_size`, `crop_pct`, `mean`, `std`, `interpolation`, as timm's `create_transform` reads them for evaluation."""
    channels, height, width = found["input_size"]
    share, mode = found.get("crop_pct") or 0.875, found.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise ValueError(f"crop_mode {mode!r} is not supported: center or squash")
    larger = [int(height / share), int(width / share)]
    resize = larger if mode == "squash" or height != width else larger[0]
    labels = found.get("label_names") or outer.get("label_names") or []
    return Preprocess.read(
        {
            "channels": _channels(channels),
            "resize": resize,
            "crop": [height, width],
            "interpolation": found.get("interpolation") or "bilinear",
            "mean": list(found["mean"]),
            "std": list(found["std"]),
            "labels": list(labels),
        }
    )


def _hugging_face(found: Mapping[str, Any]) -> Preprocess:
    """Fields of an image processor of `transformers`."""
    mean, std = (found["image_mean"], found["image_std"]) if found.get("do_normalize", True) else ([0.0] * 3, [1.0] * 3)
    made: dict[str, Any] = {"channels": _channels(len(mean)), "mean": list(mean), "std": list(std)}
    if found.get("do_resize", True):
        made["resize"] = _size(found["size"])
        made["interpolation"] = RESAMPLE.get(found.get("resample", 2), "?")
    if found.get("do_center_crop", False):
        crop = _size(found["crop_size"])
        made["crop"] = [crop, crop] if isinstance(crop, int) else crop
    made["rescale"] = found.get("rescale_factor", 1 / 255) if found.get("do_rescale", True) else 1.0
    names = found.get("id2label") or {}
    made["labels"] = [names[key] for key in sorted(names, key=int)]
    return Preprocess.read(made)


def _size(size: Any) -> Any:
    """A number is the shorter side."""
    if isinstance(size, int):
        return size
    return size["shortest_edge"] if "shortest_edge" in size else [size["height"], size["width"]]


def _channels(count: Any) -> str:
    if count not in (1, 3):
        raise ValueError(f"{count} channels: pictures have 1 or 3")
    return "L" if count == 1 else "RGB"
