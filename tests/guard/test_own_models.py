"""mpcc's own op counts: what the models here cost may only rise on purpose.

When a change of mpcc is meant to make one dearer (or has made it cheaper): pytest tests/guard --update-op-counts, look
at the difference, commit it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mpcc.cost import OpCounts

from .two_blocks import two_blocks

DIGITS = Path(__file__).parents[2] / "examples" / "digits_vit"


def test_two_blocks(op_counts: Callable[..., OpCounts]) -> None:
    assert op_counts(*two_blocks(), name="two_blocks").protocol == "crypten"


@pytest.mark.slow
def test_the_digits_model(op_counts: Callable[..., OpCounts]) -> None:
    op_counts(DIGITS / "model.onnx", calibration=DIGITS / "calibration.npz", name="digits_vit")
