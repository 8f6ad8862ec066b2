"""mpcc's own op counts: what the models here cost may only increase on purpose.

When a change of mpcc is meant to make one dearer (or has made it cheaper): `make op-counts`, look at the difference,
commit it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from mpcc.calibration.basis import ENOUGH
from mpcc.cost import OpCounts
from tests.models.two_blocks import two_blocks
from tests.models.vit_lite import smooth_image, vit_lite_7_4_32

ROOT = Path(__file__).parents[2]
DIGITS, FASHION = ROOT / "examples" / "digits_vit", ROOT / "examples" / "fashion_vit"
Guard = Callable[..., OpCounts]


def smooth(side: int, channels: int) -> torch.Tensor:
    """Eight images that are the same on every machine, as often as it takes to count as enough. [64, channels, side, side]"""
    images = torch.cat([smooth_image(side, seed=seed)[:, :channels] for seed in range(1000, 1008)])
    return images.repeat(ENOUGH // len(images), 1, 1, 1)


def test_two_blocks(op_counts: Guard) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.cat([torch.randn(1, 4, 8, generator=generator) for _ in range(16)])
    assert op_counts(*two_blocks(), calibration=rows.repeat(ENOUGH // 16, 1, 1), name="two_blocks").protocol == "mpcc"


def test_the_digits_model(op_counts: Guard) -> None:
    op_counts(DIGITS / "model.onnx", calibration=DIGITS / "calibration.npz", name="digits_vit")


def test_the_fashion_model(op_counts: Guard) -> None:
    op_counts(FASHION / "model.onnx", calibration=smooth(28, 1), name="fashion_vit")


def test_vit_lite(op_counts: Guard) -> None:
    model, inputs = vit_lite_7_4_32()
    op_counts(model, inputs, calibration=smooth(32, 3), name="vit_lite")
