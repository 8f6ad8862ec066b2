"""torchvision: its Vision Transformers for images and video, the smallest of each kind, from its own registry."""

from __future__ import annotations

import importlib
import re
from typing import Any

import torch

from benchmarks.coverage.torchvision_stub import declare

declare()
models = importlib.import_module("torchvision.models")

_KINDS = re.compile(r"(vit|swin|maxvit|mvit)")


def names() -> list[str]:
    smallest = re.compile(r"(_b_16|_t|mvit_v2_s)$")
    return [name for name in models.list_models() if _KINDS.search(name) and smallest.search(name)]


def build(name: str) -> tuple[torch.nn.Module, tuple[Any, ...]]:
    video = name.startswith(("mvit", "swin3d"))
    model = models.get_model(name, weights=None)
    return model, (torch.randn(1, 3, *([16] if video else []), 224, 224),)
