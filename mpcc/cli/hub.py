"""Models by name from the libraries that publish them: timm:NAME, torchvision:NAME, hf:NAME (or a folder of one).

The library builds the model with random weights, unless --pretrained asks for those of its cache or of the network, or
--weights names a .safetensors file of them. What the library says about pictures is taken along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from mpcc.errors import MissingDependency, ModelFileError, UsageError

SIDE = 224
"""Pixels a side of what published models see, where the library does not say."""


@dataclass(frozen=True)
class Named:
    """A model, an input of its shape, and how a picture becomes one (a configuration that `mpcc.client` reads)."""

    model: Any
    example: Any
    preprocess: Mapping[str, Any] | None = None


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
    except ImportError as error:
        raise MissingDependency(f"{text} needs the package {error.name}", hint=f"pip install {PACKAGES[library]}") from None
    except MissingDependency:
        raise
    except Exception as error:  # whatever a library raises for an unknown name, or without a network
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        hint = f"Is {name} a model of {PACKAGES[library]}, and are its weights there?" if pretrained else None
        raise UsageError(f"{PACKAGES[library]} cannot make it: {why}", where=text, hint=hint) from None
    if weights is not None:
        load_weights(made.model, weights)
    return made


def load_weights(model: Any, path: Path) -> None:
    """The tensors of a .safetensors file into the model, which must be all that it has. ModelFileError where they do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors" or not path.is_file():
        what = "there is no such file" if path.suffix == ".safetensors" else "weights are read from .safetensors files only"
        raise ModelFileError(what, where=str(path), hint="safetensors.torch.save_file(model.state_dict(), path) writes one.")
    try:
        missing, unexpected = model.load_state_dict(load_file(path), strict=False)
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
    config, auto = transformers.AutoConfig.from_pretrained(name), transformers.AutoModelForImageClassification
    model = auto.from_pretrained(name) if pretrained else auto.from_config(config)
    size = getattr(config, "image_size", SIDE)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    example = {"pixel_values": torch.zeros(1, getattr(config, "num_channels", 3), height, width)}
    try:
        settings = transformers.AutoImageProcessor.from_pretrained(name).to_dict()
    except (OSError, ValueError, ImportError):  # a model without a processor of its own
        settings = None
    return Named(model, example, settings)


LIBRARIES: Mapping[str, Callable[[str, bool], Named]] = {"timm": _timm, "torchvision": _torchvision, "hf": _hugging_face}
PACKAGES = {"timm": "timm", "torchvision": "torchvision", "hf": "transformers"}
