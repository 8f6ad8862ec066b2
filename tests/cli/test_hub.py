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


def raising(error: Exception) -> Any:
    def create(name: str, pretrained: bool) -> Any:
        raise error

    return SimpleNamespace(create_model=create)


def test_what_a_library_raises_is_told_by_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    unlike = ImportError("could not import the model")  # as transformers wraps what its own imports raise
    unlike.__cause__ = RuntimeError("operator torchvision::nms does not exist")
    monkeypatch.setitem(sys.modules, "timm", raising(unlike))
    with pytest.raises(UsageError, match="nms does not exist\n.*pip install torch torchvision"):
        named("timm:tiny")
    monkeypatch.setitem(sys.modules, "timm", raising(OSError("We couldn't connect to the hub\nand more")))
    with pytest.raises(UsageError, match="couldn't connect to the hub\n.*--weights"):
        named("timm:tiny", pretrained=True)


def test_the_image_tower_of_a_pair(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual, self.text = Tiny(), nn.Linear(3, 4)

    how = {"size": (8, 8), "mean": (0.5,) * 3, "std": (0.25,) * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    stand_in = SimpleNamespace(
        create_model=lambda name, pretrained: Pair(), get_model_preprocess_cfg=lambda model: how,
        list_pretrained_tags_by_model=lambda name: ["openai"],
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "open_clip", stand_in)
    whole = Pair()
    save_file(whole.state_dict(), tmp_path / "pair.safetensors")
    found = named("open_clip:ViT-tiny", weights=tmp_path / "pair.safetensors")
    assert found.example.shape == (1, 3, 8, 8) and found.preprocess is not None
    torch.testing.assert_close(found.model.head.weight, whole.visual.head.weight)
    with pytest.raises(UsageError, match="which pretrained weights.*\n.*ViT-tiny/TAG, of: openai"):
        named("open_clip:ViT-tiny", pretrained=True)


def test_a_folder_of_a_configuration_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes come from the image processor; what classifies nothing is taken as it is."""
    asked: list[str] = []

    def auto(kind: str) -> Any:
        return SimpleNamespace(from_config=lambda config: asked.append(kind) or Tiny())

    settings = {"do_center_crop": True, "crop_size": {"height": 8, "width": 6}, "size": {"shortest_edge": 9}}
    processor = SimpleNamespace(to_dict=lambda: settings)
    stand_in = SimpleNamespace(
        AutoConfig=SimpleNamespace(from_pretrained=lambda name: SimpleNamespace(image_size=99)),
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING={}, AutoModelForImageClassification=auto("classes"), AutoModel=auto("features"),
        AutoImageProcessor=SimpleNamespace(from_pretrained=lambda name: processor),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "transformers", stand_in)
    assert named("hf:folder").example["pixel_values"].shape == (1, 3, 8, 6)
    assert asked == ["features"]


def test_weights_belong_to_a_library() -> None:
    made = CliRunner().invoke(app, ["optimize", "tests.models.two_blocks:two_blocks", "--pretrained"])
    assert made.exit_code == 2 and "of a library" in made.output
