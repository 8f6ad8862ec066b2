"""Models by name from the libraries that publish them: timm:NAME, torchvision:NAME, hf:NAME (or a folder), open_clip:NAME.

The library builds the model with random weights, unless --pretrained asks for those of its cache or of the network, or
--weights names a .safetensors file of them. What the library says about pictures is taken along. Of open_clip it is the
image tower: open_clip:NAME, or open_clip:NAME/TAG with the tag of its pretrained weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from mpcc.errors import MissingDependency, ModelFileError, MpccError, UsageError

SIDE = 224
"""Pixels a side of what published models see, where the library does not say."""
MOST_SHOWN = 300
"""Characters of what a library says: some list every model that they have."""


@dataclass(frozen=True)
class Named:
    """A model, an input of its shape, and how a picture becomes one (a configuration that `mpcc.client` reads).

    `part`: what the names of its weights begin with in a file of the whole that it is a part of.
    """

    model: Any
    example: Any
    preprocess: Mapping[str, Any] | None = None
    part: str = ""


def is_named(text: str) -> bool:
    """Whether a MODEL is one of a library. A file or module of that name would have to be given another way."""
    return text.partition(":")[0] in LIBRARIES and bool(text.partition(":")[2])


def named(text: str, pretrained: bool = False, weights: Path | None = None) -> Named:
    """The model that `timm:vit_tiny_patch16_224` names. MissingDependency, UsageError, ModelFileError."""
    library, _, name = text.partition(":")
    if pretrained and weights is not None:
        raise UsageError("--pretrained and --weights exclude each other")
    try:
        made = LIBRARIES[library](name, pretrained)
    except MpccError:
        raise
    except Exception as error:  # whatever a library raises for an unknown name, or without a network
        raise _told(error, text, PACKAGES[library], pretrained) from None
    if weights is not None:
        load_weights(made.model, weights, made.part)
    return made


def _told(error: Exception, text: str, package: str, pretrained: bool) -> MpccError:
    """What a library raised, by its first cause and with what helps against it."""
    if isinstance(error, ImportError) and error.name:
        return MissingDependency(f"{text} needs the package {error.name}", hint=f"pip install {package}")
    first: BaseException = error
    while first.__cause__ is not None:
        first = first.__cause__
    offline = next((one for one in (error, first) if isinstance(one, OSError)), None)
    shown = error if offline is not None else first  # what a library says of a connection is clearer than the socket's words
    why = next(iter(str(shown).strip().splitlines()), type(shown).__name__)
    hint = None
    if "torchvision::" in why:
        hint = "torchvision was built for another torch: install the two together, `pip install torch torchvision`."
    elif offline is not None:
        where = " A folder with its config.json works too: hf:FOLDER." if package == "transformers" else ""
        hint = f"Without a network, --weights FILE.safetensors takes the weights from a file.{where}"
    elif pretrained:
        hint = f"Is it a model of {package}, and are its weights there? --weights FILE.safetensors takes them from a file."
    return UsageError(f"{package} cannot make it: {why[:MOST_SHOWN]}", where=text, hint=hint)


def load_weights(model: Any, path: Path, part: str = "") -> None:
    """The tensors of a .safetensors file into the model, which must be all that it has. ModelFileError where they do not fit.

    Of a file with names that begin with `part`, these alone, without it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors" or not path.is_file():
        what = "there is no such file" if path.suffix == ".safetensors" else "weights are read from .safetensors files only"
        raise ModelFileError(what, where=str(path), hint="safetensors.torch.save_file(model.state_dict(), path) writes one.")
    try:
        tensors = load_file(path)
        own = {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)} if part else {}
        missing, unexpected = model.load_state_dict(own or tensors, strict=False)
    except (SafetensorError, RuntimeError, OSError) as error:
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelFileError(f"its tensors do not fit the model: {why}", where=str(path)) from None
    if missing or unexpected:
        some = [*(f"no {name}" for name in missing), *(f"{name}, which the model has not" for name in unexpected)][:3]
        raise ModelFileError(f"its tensors are not those of the model: {'; '.join(some)}", where=str(path))


def _timm(name: str, pretrained: bool) -> Named:
    import torch

    timm: Any = import_module("timm")
    model = timm.create_model(name, pretrained=pretrained)
    settings = dict(getattr(model, "pretrained_cfg", None) or {})
    size = settings.get("input_size") or (3, SIDE, SIDE)
    return Named(model, torch.zeros(1, *size), settings if "mean" in settings else None)


def _torchvision(name: str, pretrained: bool) -> Named:
    import torch

    models: Any = import_module("torchvision.models")
    weights = models.get_model_weights(name).DEFAULT if pretrained else None
    model = models.get_model(name, weights=weights)
    side = getattr(model, "image_size", SIDE)
    if weights is None:
        return Named(model, torch.zeros(1, 3, side, side))
    how = weights.transforms()
    crop = how.crop_size[0]
    settings = {
        "input_size": [3, crop, crop], "crop_pct": crop / how.resize_size[0], "mean": list(how.mean), "std": list(how.std),
        "interpolation": str(how.interpolation.value), "label_names": list(weights.meta.get("categories", [])),
    }  # fmt: skip
    return Named(model, torch.zeros(1, 3, crop, crop), settings)


def _hugging_face(name: str, pretrained: bool) -> Named:
    import torch

    transformers: Any = import_module("transformers")
    config = transformers.AutoConfig.from_pretrained(name)
    classifies = type(config) in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    auto = transformers.AutoModelForImageClassification if classifies else transformers.AutoModel
    model = auto.from_pretrained(name) if pretrained else auto.from_config(config)
    try:
        settings = transformers.AutoImageProcessor.from_pretrained(name).to_dict()
    except (OSError, ValueError, ImportError):  # a model without a processor of its own, or without what it needs
        settings = None
    height, width = _sides(settings or {}) or _pair(getattr(config, "image_size", None) or SIDE)
    return Named(model, {"pixel_values": torch.zeros(1, getattr(config, "num_channels", 3), height, width)}, settings)


def _sides(settings: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of what an image processor gives, where it says both: positions are interpolated for other sizes."""
    size = settings.get("crop_size" if settings.get("do_center_crop") else "size") or {}
    return (size["height"], size["width"]) if {"height", "width"} <= set(size) else None


def _pair(size: Any) -> tuple[int, int]:
    return (size[0], size[1]) if isinstance(size, (list, tuple)) else (size, size)


def _open_clip(name: str, pretrained: bool) -> Named:
    import torch

    open_clip: Any = import_module("open_clip")
    name, _, tag = name.partition("/")
    if pretrained and not tag:
        tags = open_clip.list_pretrained_tags_by_model(name)
        raise UsageError(f"which pretrained weights of {name}?", hint=f"open_clip:{name}/TAG, of: {', '.join(tags) or 'none'}.")
    whole = open_clip.create_model(name, pretrained=tag if pretrained else None)
    how = open_clip.get_model_preprocess_cfg(whole)
    height, width = _pair(how.get("size") or whole.visual.image_size)
    settings = {
        "input_size": [3, height, width], "crop_pct": 1.0, "mean": list(how["mean"]), "std": list(how["std"]),
        "interpolation": how["interpolation"], "crop_mode": "squash" if how.get("resize_mode") == "squash" else "center",
    }  # fmt: skip
    return Named(whole.visual, torch.zeros(1, 3, height, width), settings, part="visual.")


LIBRARIES: Mapping[str, Callable[[str, bool], Named]] = {
    "timm": _timm, "torchvision": _torchvision, "hf": _hugging_face, "open_clip": _open_clip,
}  # fmt: skip
PACKAGES = {"timm": "timm", "torchvision": "torchvision", "hf": "transformers", "open_clip": "open_clip_torch"}
