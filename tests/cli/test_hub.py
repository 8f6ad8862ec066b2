"""Models of a library by name: built, filled with weights from a file, their preprocessing taken along."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

import mpcc
from mpcc.cli.app import app
from mpcc.cli.hub import named
from mpcc.errors import Assumed, MissingDependency, ModelFileError, UsageError

CONFIGURATION = {
    "input_size": (3, 8, 8), "crop_pct": 1.0, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "interpolation": "bicubic",
}  # fmt: skip


class Tiny(nn.Module):
    pretrained_cfg = CONFIGURATION

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean((2, 3)))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(name: str, pretrained: bool) -> Any:
        if name != "tiny" or pretrained:
            raise RuntimeError(f"Unknown model ({name})")
        return Tiny()

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create))


@pytest.mark.usefixtures("library")
def test_weights_and_preprocessing_are_taken_along(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    model = Tiny().eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "photos").mkdir()
    for number in range(3):
        image.new("RGB", (12, 10), (80 * number, 90, 200)).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no picture")
    place = tmp_path / "m.mpcc"
    with pytest.warns(Assumed, match=r"left out: broken\.jpg"):
        made = CliRunner().invoke(app, [
            "optimize", "timm:tiny", "--weights", str(tmp_path / "w.safetensors"), "--calibration", str(tmp_path / "photos"),
            "--machine", "reference", "-o", str(place),
        ])  # fmt: skip
    assert made.exit_code == 0, made.output
    assert str(tmp_path / "photos") in made.output.replace("\n", "")
    executable = mpcc.load(place)
    assert executable.plan.notes["preprocess"]["std"] == [0.25] * 3
    x = torch.randn(1, 3, 8, 8)
    found = executable.emulate(x, check=False)
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, model(x), rtol=0, atol=1e-2)


@pytest.mark.usefixtures("library")
def test_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Unknown model"):
        named("timm:huge")
    with pytest.raises(UsageError, match="exclude"):
        named("timm:tiny", True, tmp_path / "w.safetensors")
    with pytest.raises(ModelFileError, match="no such file"):
        named("timm:tiny", weights=tmp_path / "w.safetensors")
    save_file({"head.weight": torch.zeros(4, 3)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelFileError, match=r"no head\.bias"):
        named("timm:tiny", weights=tmp_path / "w.safetensors")
    save_file({"head.weight": torch.zeros(5, 3), "head.bias": torch.zeros(4)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelFileError, match="do not fit"):
        named("timm:tiny", weights=tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"{}")
    with pytest.raises(ModelFileError):
        named("timm:tiny", weights=tmp_path / "w.safetensors")


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependency, match="pip install timm"):
        named("timm:tiny")


def test_weights_belong_to_a_library() -> None:
    made = CliRunner().invoke(app, ["optimize", "tests.models.two_blocks:two_blocks", "--pretrained"])
    assert made.exit_code == 2 and "of a library" in made.output
