"""A bundle of which one file was changed, with hashes that fit: what cannot be right is refused, by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.fuzz_bundles import fitted
from benchmarks.fuzz_mutations import original
from mpcc.bundle import open_bundle
from mpcc.errors import BundleError, InvalidGraph, PlanError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in original().files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_the_original_is_opened(folder: Path) -> None:
    fitted(folder)
    assert open_bundle(folder).program.inputs()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_weights_that_are_no_numbers_of_the_ring(folder: Path, value: float) -> None:
    def changed(weights: dict[str, Tensor]) -> None:
        weights["head.bias"][1] = value

    _change_weights(folder, changed)
    with pytest.raises(BundleError, match=r"'head.bias' in weights.safetensors has values that are infinite, NaN or beyond"):
        open_bundle(folder)


def test_weights_of_another_type(folder: Path) -> None:
    def changed(weights: dict[str, Tensor]) -> None:
        weights["head.bias"] = weights["head.bias"].to(torch.int32)

    _change_weights(folder, changed)
    with pytest.raises(BundleError, match="'head.bias' in weights.safetensors is torch.int32, not float32"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_version", 3), ("model_version", "x" * 64), ("program_digest", None), ("files", []), ("created_by", "\x1b[2J"),
        ("inputs", "x"), ("outputs", [[0]]), ("inputs", [[2**40, 2**40]]),
    ],
)  # fmt: skip
def test_fields_of_the_manifest_are_of_their_kinds(folder: Path, key: str, value: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {key: value}), encoding="utf-8")
    with pytest.raises(BundleError, match="damaged"):
        open_bundle(folder)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"format": 1, "format": 2}', b"\xff", '{"format": NaN}'])
def test_a_manifest_that_is_no_plain_json(folder: Path, content: str | bytes) -> None:
    (folder / "manifest.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BundleError, match="damaged"):
        open_bundle(folder)


@pytest.mark.parametrize(
    "content", [b"\xff", b"[" * 100_000, b'{"version": 1, "version": 1}', b'{"version": 1e999}', b'{"a": "\\ud800"}']
)
def test_a_plan_that_is_no_plain_json(folder: Path, content: bytes) -> None:
    (folder / "plan.json").write_bytes(content)
    fitted(folder)
    with pytest.raises(PlanError, match="not JSON"):
        open_bundle(folder)


def named(rows: list[Any], name: str) -> Any:
    return next(row for row in rows if row["name"] == name)


def of(rows: list[Any], op: str) -> Any:
    return [row for row in rows if row["op"] == op][-1]


def another_mask(document: Any) -> None:
    high = of(document["dealer"], "high")
    shape = named(document["dealer"], high["args"][0])["args"]
    alike = [row["name"] for row in document["dealer"] if row["op"] == "mask" and row["args"] == shape]
    high["args"][0] = next(name for name in alike if name != high["args"][0])


def another_shift(document: Any) -> None:
    of(document["dealer"], "high")["args"][1] += 1


def a_share_for_an_opening(document: Any) -> None:
    power_sum = of(document["online"], "power_sum")
    masked = named(document["online"], named(document["online"], power_sum["args"][0])["args"][0])
    power_sum["args"][0] = masked["args"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_mask, "is not the correlation that it computes with"),
        (another_shift, "is not the correlation that it computes with"),
        (a_share_for_an_opening, "is not an opened value"),
    ],
)
def test_correlations_of_other_values(folder: Path, change: Callable[[Any], None], message: str) -> None:
    """The masks are all right, so that nothing leaks; but the private run would give noise."""
    path = folder / "program.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    fitted(folder)
    with pytest.raises(InvalidGraph, match=message):
        open_bundle(folder)


def _change_weights(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    path = folder / "weights.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    fitted(folder)
