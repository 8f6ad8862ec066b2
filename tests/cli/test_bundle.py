"""The bundle: the same bytes for the same model and plan, whole or not at all, nothing local and no code in it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mpcc.bundle import open_bundle
from mpcc.bundle.manifest import hash_of
from mpcc.bundle.owner import read_key
from mpcc.bundle.write import replaced
from mpcc.errors import BundleError
from mpcc.pipeline import load
from mpcc.runtime.executable import Executable

Mpcc = Callable[..., Any]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_files(bundle: Path) -> None:
    public = {"plan.json", "program.json", "manifest.json"}
    private = {"model.onnx", "weights.safetensors", "report.html", "owner.json"}
    assert set(contents(bundle)) == public | private | {f"public/{name}" for name in public}


def test_the_same_model_and_plan_give_the_same_bytes(
    mpcc: Mpcc, model: Path, calibration: Path, bundle: Path, tmp_path: Path
) -> None:
    assert mpcc("optimize", model, "--calibration", calibration, "-o", "again.mpcc").code == 0
    again, first = contents(tmp_path / "again.mpcc"), contents(bundle)
    assert {name for name in first if again[name] != first[name]} == {"owner.json", "manifest.json", "public/manifest.json"}


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


def test_the_public_part_is_all_that_client_and_dealer_need(bundle: Path) -> None:
    opened = open_bundle(bundle / "public", weights=False)
    assert opened.program.digest == load(bundle).program.digest and set(opened.manifest.files) == {"plan.json", "program.json"}
    with pytest.raises(BundleError, match="without the weights"):
        load(bundle / "public")


def test_no_hash_confirms_a_guess_of_the_weights(bundle: Path) -> None:
    """Whoever has the same files cannot find their plain hashes in what leaves the owner, nor make its model version."""
    said = "".join((bundle / place / "manifest.json").read_text() for place in (".", "public"))
    for name in ("weights.safetensors", "model.onnx", "report.html"):
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() not in said
    executable = load(bundle)
    again = Executable(executable.program, executable.plan)
    assert executable.version in said and again.version not in said and executable.key.hex() not in said


def test_a_changed_weight_is_found_though_no_hash_of_it_is_public(own_bundle: Path) -> None:
    """Also where the manifest was rewritten to fit, which takes the key to do well."""
    weights = {name: value * 1.01 for name, value in load_file(own_bundle / "weights.safetensors").items()}
    save_file(weights, own_bundle / "weights.safetensors")
    with pytest.raises(BundleError, match="weights.safetensors was changed"):
        load(own_bundle)
    rehashed(own_bundle)
    with pytest.raises(BundleError, match="not those of the version"):
        load(own_bundle)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_weights_that_cannot_be_right_are_refused(own_bundle: Path, value: float) -> None:
    weights = load_file(own_bundle / "weights.safetensors")
    name = sorted(weights)[0]
    weights[name] = weights[name].clone()
    weights[name].view(-1)[0] = value
    save_file(weights, own_bundle / "weights.safetensors")
    rehashed(own_bundle)
    with pytest.raises(BundleError, match=re.escape(name) + ".*infinite, NaN or beyond the ring"):
        load(own_bundle)


def rehashed(folder: Path) -> None:
    """Make the manifest fit the files, as somebody who has the key could."""
    manifest = json.loads((folder / "manifest.json").read_text())
    key = read_key(folder)
    manifest["files"] = {name: hash_of(folder / name, key) for name in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("content", ["", "[]", '{"key": "00"}', '{"key": 1}'])
def test_a_damaged_key_is_refused(own_bundle: Path, content: str) -> None:
    (own_bundle / "owner.json").write_text(content)
    with pytest.raises(BundleError, match="owner.json is damaged"):
        load(own_bundle)


@pytest.mark.parametrize("name", ["weights.safetensors", "model.onnx", "owner.json"])
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
    assert security.hides(load(bundle).program.hidden) in text
    assert security.TITLE in text and security.POINTS[0][1].split(",")[1] in text
    assert "Calibrated on synthetic" not in text
    assert "<script" not in text and not re.search(r'(?:href|src)="(?!#)', text)


def test_a_report_without_calibration_says_so(mpcc: Mpcc, model: Path, tmp_path: Path) -> None:
    answer = mpcc("optimize", model)
    assert answer.code == 0
    assert "Accuracy unknown: no images were given" in answer.out
    assert "Calibrated on synthetic inputs" in (tmp_path / "tiny.mpcc" / "report.html").read_text()
