"""torchvision has no CPU wheel for this torch: it imports once its two operators are declared."""

from __future__ import annotations

import torch

_LIBRARY = torch.library.Library("torchvision", "DEF")


def declare() -> None:
    """Declare what torchvision expects its binary part to have declared; nothing calls it."""
    for name in ("nms", "qnms"):
        try:
            _LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        except RuntimeError:
            return
