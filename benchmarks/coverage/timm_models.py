"""timm: the smallest model of each family of each module that has attention or token mixing, from timm's own lists."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import torch

from benchmarks.coverage.torchvision_stub import declare

declare()
import timm  # noqa: E402

# A module is a ViT module if its source says so, or its title.
_MARKS = re.compile(
    r"\bsoftmax\(|scaled_dot_product|class \w*Attention\b|VisionTransformer|\bMlp\b|LiteMLA|halonet"
    r'|\A"""\s*[\w ]*(ViT\b|Vision Transformer)'
)

# Words of a name that say how large, not what kind; from small to large.
_SIZES = (
    "test zepto atto femto pico nano n t xxxt xxt xt ti tiny xxs xs xx x s small mini m medium mediumd little betwixt"
    " lite b base plus so150m so400m l large h huge xlarge xxlarge xl xxl g giant gigantic enormous 1b 7b"
).split()


LARGEST = 800  # pixels of a side


def names() -> list[str]:
    """`module/model`, one for each family."""
    found = []
    for module in timm.list_modules():
        if not _MARKS.search(inspect.getsource(importlib.import_module(f"timm.models.{module}"))):
            continue
        families: dict[str, list[str]] = {}
        for model in timm.list_models(module=module):
            families.setdefault(_family(model), []).append(model)
        found += [f"{module}/{min(models, key=_size)}" for models in families.values()]
    return found


def _family(model: str) -> str:
    words = model.split("_")
    number = r"(patch|window|p|in|r|w|reg|gap|d|cls|clip)?\d+[a-z]?(x\d+)?"
    kept = [word for word in words if word not in _SIZES and not re.fullmatch(number, word)]
    return re.sub(r"\d+", "", "_".join(kept))


def _size(model: str) -> tuple[int, int, int, str]:
    ranks = [_SIZES.index(word) for word in model.split("_") if word in _SIZES]
    resolution = max((int(number) for number in re.findall(r"\d{3,}", model)), default=0)
    first = int(next(iter(re.findall(r"\d+", model)), 0))
    return min(ranks, default=len(_SIZES) // 2), resolution, first, model


def build(name: str) -> tuple[torch.nn.Module, tuple[Any, ...]]:
    made = _shallow(name.partition("/")[2])
    size = made.default_cfg.get("input_size") or (3, 224, 224)
    if max(size) > LARGEST:  # thousands of tokens: a quarter of the side, where the family takes that
        small = tuple(side // 4 for side in size[1:])
        try:
            made, size = _shallow(name.partition("/")[2], img_size=small), (size[0], *small)
        except ValueError:
            pass
    return made, (torch.randn(1, *size),)


def _shallow(name: str, **sizes: Any) -> Any:
    """With two narrow blocks where the family can be cut like that, else as it is."""
    narrow = {"depth": 2, "embed_dim": 192, "num_heads": 3}
    grouped = {"depth": 2, "embed_dim": 384, "num_heads": 12, "num_kv_heads": 6}
    for cut in (narrow, grouped, {"depth": 2}, {}):
        try:
            return timm.create_model(name, pretrained=False, **sizes, **cut)
        except (TypeError, AssertionError, RuntimeError, ValueError):
            continue
    raise ValueError(f"{name} cannot be made")
