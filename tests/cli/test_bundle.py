"""The bundle: the same bytes for the same model and plan, whole or not at all, nothing local and no code in it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mpcc.bundle import open_bundle
from mpcc.bundle.write import replaced
from mpcc.errors import BundleError
from mpcc.pipeline import load
from mpcc.runtime.executable import Executable

Mpcc = Callable[..., Any]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files(bundle: Path) -> None:
    wanted = {"plan.json", "model.onnx", "program.json", "weights.safetensors", "report.html", "manifest.json"}
    assert set(contents(bundle)) == wanted


def test_the_same_model_and_plan_give_the_same_bytes(
    mpcc: Mpcc, model: Path, calibration: Path, bundle: Path, tmp_path: Path
) -> None:
    assert mpcc("optimize", model, "--calibration", calibration, "-o", "again.mpcc").code == 0
    assert contents(tmp_path / "again.mpcc") == contents(bundle)


def test_nothing_local_and_no_pickle_in_it(bundle: Path) -> None:
    """No path of this machine, no user name, no date."""
    words = [
        str(Path.cwd()),
        str(Path.home()),
        "site-packages",
        "/tmp/",
        "stack_trace",
        os.environ.get("USER") or "/work/",
    ]
    for name, content in contents(bundle).items():
        assert not content.startswith(b"\x80"), name
        found = [word for word in words if word.encode() in content]
        assert not found, f"{name} holds {found}"


def test_a_loaded_program_computes_the_same(bundle: Path) -> None:
    """And what it computes is close to the ONNX file."""
    from mpcc.pipeline import capture

    opened = open_bundle(bundle)
    image = torch.full((1, 4), 0.5)
    emulated = load(bundle).emulate(image)
    assert isinstance(emulated, torch.Tensor)
    torch.testing.assert_close(emulated, Executable.of(opened).emulate(image), atol=0, rtol=0)
    torch.testing.assert_close(emulated, capture(opened.model)(image).detach(), atol=1e-3, rtol=0)


def test_the_manifest_names_program_and_model(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    executable = load(bundle)
    assert manifest["program_digest"] == executable.program.digest
    assert manifest["model_version"] == executable.version
    assert manifest["inputs"] == [[1, 4]] and manifest["outputs"] == [[1, 3]]


def test_client_and_dealer_need_no_weights(own_bundle: Path) -> None:
    """The public files are enough for the same program; what holds weights may be absent."""
    digest = load(own_bundle).program.digest
    for name in ("weights.safetensors", "model.onnx", "report.html"):
        (own_bundle / name).unlink()
    opened = open_bundle(own_bundle, weights=False)
    assert opened.program.digest == digest
    assert all(value.is_meta for value in opened.program.constants.values())
    with pytest.raises(BundleError, match="missing"):
        open_bundle(own_bundle)


def test_an_existing_bundle_is_replaced(bundle: Path, own_bundle: Path) -> None:
    (own_bundle / "report.html").write_text("old")
    executable = load(bundle)
    executable.save(own_bundle)
    assert "old" not in (own_bundle / "report.html").read_text()
    assert load(own_bundle).version == executable.version
    assert [path.name for path in own_bundle.parent.iterdir()] == [own_bundle.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full"), RuntimeError("a bug")])
def test_what_is_interrupted_leaves_the_old_one(
    bundle: Path, own_bundle: Path, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    before = contents(own_bundle)
    executable = load(bundle)

    def fail(*_: Any) -> str:
        raise error

    monkeypatch.setattr("mpcc.bundle.write.write_weights", fail)
    with pytest.raises(BaseException, match="disk full|a bug|^$"):
        executable.save(own_bundle)
    assert contents(own_bundle) == before
    assert [path.name for path in own_bundle.parent.iterdir()] == [own_bundle.name]


def test_a_swap_that_fails_puts_the_old_one_back(own_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(own_bundle)
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("no room")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no room"), replaced(own_bundle) as new:
        (new / "manifest.json").write_text("{}")
    assert contents(own_bundle) == before


@pytest.mark.parametrize("name", ["weights.safetensors", "model.onnx"])
def test_only_this_user_may_read_what_holds_weights(bundle: Path, name: str) -> None:
    assert (bundle / name).stat().st_mode & 0o077 == 0


def test_a_file_in_the_way_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="exists"):
        load(bundle).save(tmp_path / "file")


def test_the_report_has_the_comparison_and_the_security_statement(bundle: Path) -> None:
    from mpcc import security

    text = (bundle / "report.html").read_text()
    assert "<svg" in text and "act.relu" in text and "Before and after" in text
    assert security.TITLE in text and security.POINTS[0][1].split(",")[1] in text
    assert "Calibrated on synthetic" not in text
    assert "<script" not in text and not re.search(r'(?:href|src)="(?!#)', text)


def test_a_report_without_calibration_says_so(mpcc: Mpcc, model: Path, tmp_path: Path) -> None:
    answer = mpcc("optimize", model)
    assert answer.code == 0
    assert "Accuracy unknown: no images were given" in answer.out
    assert "Calibrated on synthetic inputs" in (tmp_path / "tiny.mpcc" / "report.html").read_text()
