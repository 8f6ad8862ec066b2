"""Published families are tuned by the same command: a plain ViT and a Swin of timm, both reduced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mpcc
from mpcc.cost import Budget
from mpcc.training import Hyperparameters

FAMILIES: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"img_size": 28, "patch_size": 7, "depth": 2, "embed_dim": 48},
    "swin_tiny_patch4_window7_224": {
        "img_size": 28, "patch_size": 2, "window_size": 7, "depths": (2, 1), "embed_dim": 24, "num_heads": (2, 4),
    },
}  # fmt: skip
IMAGES, EPOCHS = 1500, 3


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_loss_and_predicted_latency_fall(timm: Any, name: str, tmp_path: Path) -> None:
    """From random weights, on labels, at half of what the accurate plan takes."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, in_chans=1, num_classes=10, **FAMILIES[name]).eval()
    example = torch.zeros(1, 1, 28, 28)
    exact = mpcc.compile(model, (example,), calibration=torch.randn(8, 1, 28, 28)).program.cost.rounds
    budget = Budget(exact / 2, "rounds")
    made = mpcc.tune(
        model, "fashion-mnist", (example,), budget=budget, network="wan", distil=False, search_epochs=EPOCHS,
        hyperparameters=Hyperparameters(epochs=EPOCHS, batch=64), images=IMAGES, checkpoint=tmp_path / "checkpoint",
    )  # fmt: skip
    search = [row for row in made.rows if row.stage == "search"]
    assert search[-1].loss < search[0].loss
    assert search[0].predicted is not None and search[-1].predicted is not None
    assert search[-1].predicted < search[0].predicted
    assert made.optimized.program.cost.rounds <= budget.amount
    assert made.accuracy > 0.2  # a tenth by chance
