"""The digits ViT served: held-out images through the thin client give the answers of the emulation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

import mpcc
from mpcc.bundle import open_bundle
from mpcc.program.program import FLOOD_REACH
from tests.models.served import serving

DIGITS = Path(__file__).parents[2] / "examples" / "digits_vit"
IMAGES = 20


@pytest.mark.slow
def test_held_out_digits(tmp_path: Path) -> None:
    """All at once, so that most of them share a computation."""
    made = mpcc.optimize(DIGITS / "model.onnx", calibration=DIGITS / "calibration.npz", machine="reference")
    place = made.save(tmp_path / "digits.mpcc")
    images = torch.from_numpy(np.load(DIGITS / "heldout.npz")["images"][:IMAGES])
    expected = mpcc.load(place).emulate(images, check=False)
    assert isinstance(expected, torch.Tensor)
    with serving(open_bundle(place), batches=(1, 4), timeout=60.0) as trio, trio.client(attempts=10, timeout=60.0) as client:
        with ThreadPoolExecutor(8) as pool:
            found = np.concatenate(list(pool.map(lambda image: client.ask(image[None].numpy()).output, images)))
    noise = made.program.flood[0]
    assert (found.argmax(1) == expected.argmax(1).numpy()).all()
    assert np.abs(found - expected.numpy()).max() < FLOOD_REACH * noise + 0.02
