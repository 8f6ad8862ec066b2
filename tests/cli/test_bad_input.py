"""Bad input: exit code 2 (1 for a budget), one message that says what to do, no traceback, nothing half-written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Mpcc = Callable[..., Any]


@pytest.fixture
def write_onnx(model: Path) -> Callable[..., Path]:
    """The ONNX file with another operator, or with an unknown second dimension."""
    import onnx

    def write(path: Path, *, operator: str = "Relu", dynamic: str = "") -> Path:
        proto = onnx.load(model)
        proto.graph.node[1].op_type = operator
        if dynamic:
            proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = dynamic
        onnx.save(proto, path)
        return path

    return write


def refused(answer: Any, folder: Path, before: set[str], *words: str, code: int = 2) -> None:
    """One message of a few lines with these words; the folder is as it was."""
    assert answer.code == code, answer.err
    assert answer.out == ""
    assert answer.err.startswith("mpcc: ")
    assert len(answer.err.strip().splitlines()) <= 3, answer.err
    assert "Traceback" not in answer.err
    missing = [word for word in words if word not in answer.err]
    assert not missing, f"{missing} not in: {answer.err}"
    assert {path.name for path in folder.iterdir()} == before


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_that_is_not_onnx(mpcc: Mpcc, tmp_path: Path) -> None:
    (tmp_path / "notes.onnx").write_text("these are my notes\n")
    refused(mpcc("optimize", "notes.onnx"), tmp_path, {"notes.onnx"}, "notes.onnx", "not an ONNX file")


def test_an_empty_file(mpcc: Mpcc, tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    refused(mpcc("optimize", "empty.onnx"), tmp_path, {"empty.onnx"}, "empty.onnx", "empty")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_file(mpcc: Mpcc, model: Path, tmp_path: Path, kept: float) -> None:
    content = model.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: int(len(content) * kept)])
    refused(mpcc("optimize", "cut.onnx"), tmp_path, {"cut.onnx"}, "cut.onnx")


def test_a_missing_file(mpcc: Mpcc, tmp_path: Path) -> None:
    refused(mpcc("optimize", "nothing.onnx"), tmp_path, set(), "nothing.onnx", "no such file")


def test_a_file_of_another_kind(mpcc: Mpcc, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"\x80\x02")
    refused(mpcc("optimize", "model.pth"), tmp_path, {"model.pth"}, ".pth", ".onnx", ".pt2")


def test_an_unknown_operator_is_named_with_its_node(mpcc: Mpcc, tmp_path: Path, write_onnx: Any) -> None:
    write_onnx(tmp_path / "odd.onnx", operator="FancyActivation")
    refused(mpcc("optimize", "odd.onnx"), tmp_path, {"odd.onnx"}, "FancyActivation", "/act/Relu")


def test_a_dynamic_shape_says_which_option_fixes_it(mpcc: Mpcc, tmp_path: Path, write_onnx: Any) -> None:
    write_onnx(tmp_path / "dynamic.onnx", dynamic="features")
    refused(mpcc("count", "dynamic.onnx"), tmp_path, {"dynamic.onnx"}, "features", "--input-shape")
    assert mpcc("count", "dynamic.onnx", "--input-shape", "input=1,4").code == 0


def test_an_input_shape_that_is_none(mpcc: Mpcc, model: Path, tmp_path: Path) -> None:
    refused(mpcc("count", model, "--input-shape", "1x4"), tmp_path, set(), "1x4", "--input-shape")


@pytest.mark.parametrize("budget", ["2parsecs", "2", "-2s", "soon"])
def test_a_budget_that_is_none(mpcc: Mpcc, model: Path, tmp_path: Path, budget: str) -> None:
    refused(mpcc("optimize", model, f"--budget={budget}"), tmp_path, set(), budget, "500ms")


def test_a_network_that_is_none(mpcc: Mpcc, model: Path, tmp_path: Path) -> None:
    refused(mpcc("optimize", model, "--network", "fast"), tmp_path, set(), "'fast'", "20ms,100MB/s")


def test_an_unknown_protocol_gets_a_suggestion(mpcc: Mpcc, model: Path, tmp_path: Path) -> None:
    refused(mpcc("optimize", model, "--protocol", "mpc"), tmp_path, set(), "did you mean 'mpcc'")


def test_an_unknown_level(mpcc: Mpcc, model: Path, tmp_path: Path) -> None:
    refused(mpcc("optimize", model, "--level", "brave"), tmp_path, set(), "'brave'", "structural")


def test_a_budget_that_cannot_be_met(mpcc: Mpcc, model: Path, tmp_path: Path) -> None:
    """Exit code 1, what can be met, and no bundle."""
    answer = mpcc("optimize", model, "--budget", "1rounds")
    refused(answer, tmp_path, set(), "1 rounds", "cannot be met", "6 rounds", "level", code=1)


def test_an_unmet_budget_leaves_the_existing_bundle(mpcc: Mpcc, model: Path, own_bundle: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in own_bundle.iterdir() if path.is_file()}
    answer = mpcc("optimize", model, "--budget", "1rounds", "-o", own_bundle)
    refused(answer, tmp_path, {"own.mpcc"}, "cannot be met", code=1)
    assert {path.name: path.read_bytes() for path in own_bundle.iterdir() if path.is_file()} == before


def test_a_plan_that_is_no_plan(mpcc: Mpcc, model: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{")
    refused(mpcc("optimize", model, "--plan", "plan.json"), tmp_path, {"plan.json"}, "plan.json", "JSON")


def test_a_folder_with_other_content_is_left_alone(mpcc: Mpcc, model: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("x")
    refused(mpcc("optimize", model, "-o", "precious"), tmp_path, {"precious"}, "precious", "-o")
    assert names(tmp_path / "precious") == {"thesis.tex"}


def test_an_input_of_the_wrong_shape(mpcc: Mpcc, bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 5), np.float32))
    answer = mpcc("run", bundle, "--input", "x.npy", "--output", "y.npy")
    refused(answer, tmp_path, {"x.npy"}, "(1, 5)", "(1, 4)", "x.npy")


def test_an_input_that_holds_objects_is_not_unpickled(mpcc: Mpcc, bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([object()]), allow_pickle=True)
    refused(mpcc("run", bundle, "--input", "x.npy"), tmp_path, {"x.npy"}, "x.npy", "numpy.save")


def test_an_input_with_nan(mpcc: Mpcc, bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((1, 4), np.nan, np.float32))
    refused(mpcc("run", bundle, "--input", "x.npy"), tmp_path, {"x.npy"}, "NaN")


def test_a_text_as_input(mpcc: Mpcc, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_text("1 2 3 4")
    refused(mpcc("run", bundle, "--input", "x.npy"), tmp_path, {"x.npy"}, "x.npy", "numpy.save")


def test_too_many_inputs(mpcc: Mpcc, bundle: Path, image: Path, tmp_path: Path) -> None:
    refused(mpcc("run", bundle, "--input", image, "--input", image), tmp_path, {"x.npy"}, "1 input", "2 were given")


def test_no_input(mpcc: Mpcc, bundle: Path, tmp_path: Path) -> None:
    refused(mpcc("run", bundle), tmp_path, set(), "--input")


@pytest.mark.parametrize("name", ["weights.safetensors", "program.json", "plan.json", "model.onnx", "report.html"])
def test_an_edited_file_is_named(mpcc: Mpcc, own_bundle: Path, image: Path, tmp_path: Path, name: str) -> None:
    content = bytearray((own_bundle / name).read_bytes())
    content[-3] ^= 1
    (own_bundle / name).write_bytes(content)
    answer = mpcc("run", own_bundle, "--input", image, "--output", "y.npy")
    refused(answer, tmp_path, {"own.mpcc", "x.npy"}, name, "changed", "mpcc optimize")


@pytest.mark.parametrize("name", ["weights.safetensors", "program.json", "manifest.json"])
def test_a_missing_file_is_named(mpcc: Mpcc, own_bundle: Path, image: Path, tmp_path: Path, name: str) -> None:
    (own_bundle / name).unlink()
    refused(mpcc("run", own_bundle, "--input", image), tmp_path, {"own.mpcc", "x.npy"}, name, "missing")


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "mpcc bundle 9"}', '{"format": "mpcc bundle 1"}'])
def test_a_damaged_manifest(mpcc: Mpcc, own_bundle: Path, image: Path, tmp_path: Path, content: str) -> None:
    (own_bundle / "manifest.json").write_text(content)
    refused(mpcc("run", own_bundle, "--input", image), tmp_path, {"own.mpcc", "x.npy"}, "manifest.json")


def test_a_manifest_cannot_name_files_elsewhere(mpcc: Mpcc, own_bundle: Path, image: Path, tmp_path: Path) -> None:
    manifest = own_bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"plan.json"', '"../../plan.json"'))
    refused(mpcc("run", own_bundle, "--input", image), tmp_path, {"own.mpcc", "x.npy"}, "manifest.json")


def test_a_folder_that_is_no_bundle(mpcc: Mpcc, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    refused(mpcc("run", "photos"), tmp_path, {"photos"}, "photos", "manifest.json")
    refused(mpcc("count", "photos"), tmp_path, {"photos"}, "photos", "manifest.json", "mpcc optimize")


@pytest.mark.slow
def test_a_missing_crypten(
    mpcc: Mpcc, bundle: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the command that installs it."""
    stand_in = tmp_path / "path"
    (stand_in / "crypten").mkdir(parents=True)
    text = "raise ModuleNotFoundError(\"No module named 'crypten'\", name='crypten')\n"
    (stand_in / "crypten" / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(str(stand_in))
    answer = mpcc("run", bundle, "--input", image, "--output", "y.npy")
    refused(answer, tmp_path, {"path", "x.npy"}, "crypten", "mpcc install-engine")


def test_code_of_the_user_that_fails(mpcc: Mpcc, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def make():\n    return {}['model']\n")
    refused(mpcc("count", "mine.py:make"), tmp_path, {"mine.py"}, "mine.py:make", "KeyError")
    refused(mpcc("count", "mine.py:other"), tmp_path, {"mine.py"}, "other")
    refused(mpcc("count", "no.such.package:make"), tmp_path, {"mine.py"}, "no.such.package")


def test_an_error_as_json(mpcc: Mpcc, tmp_path: Path) -> None:
    """stdout has kind, what, where and hint; stderr the same as text."""
    import json

    answer = mpcc("count", "nothing.onnx", "--json")
    assert answer.code == 2
    assert json.loads(answer.out)["error"]["kind"] == "ModelFileError"
    assert "nothing.onnx" in answer.err


@pytest.mark.parametrize("arguments", [("frobnicate",), ("count",), ("count", "x.onnx", "--nope")])
def test_wrong_use(mpcc: Mpcc, arguments: tuple[str, ...]) -> None:
    answer = mpcc(*arguments)
    assert answer.code == 2 and "Traceback" not in answer.err


def test_bundle_copies_are_bundles(mpcc: Mpcc, bundle: Path, tmp_path: Path) -> None:
    """A bundle may be moved: nothing in it knows where it was made."""
    shutil.copytree(bundle, tmp_path / "moved")
    assert mpcc("count", "moved").code == 0
