"""What tests of several rooms share."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session")
def timm() -> Iterator[Any]:
    """timm imports torchvision, whose binary part does not exist for this torch: its two operators are declared."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    pytest.importorskip("timm", exc_type=ImportError)
    yield importlib.import_module("timm")
    del library  # what it declares is gone with it
