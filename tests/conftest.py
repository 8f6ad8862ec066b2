"""What tests of several rooms share."""

from __future__ import annotations

import importlib
import random
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Every test draws the same numbers in every run and in any order: its seeds come from its name."""
    seed = zlib.crc32(item.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 -- what libraries under test draw from the global generator
    torch.manual_seed(seed)


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
