"""Nothing that is read ever runs: hostile text in every text field of a .pt2 file, pickles in it, and files of other kinds.

An audit hook watches what the interpreter does while a file is read. What comes out is the right answer or an MpccError.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mpcc import capture
from mpcc.errors import MpccError
from tests.frontend.hostile import HOSTILE, WATCH, right_or_refused
from tests.models.torch_models import Small


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor, torch.Tensor]:
    path, x, small = tmp_path_factory.mktemp("pt2") / "small.pt2", torch.randn(1, 2, 4, 4), Small().eval()
    torch.export.save(torch.export.export(small, (x,)), path)
    return path, x, small(x).detach()


def rewritten(path: Path, change: dict[str, bytes | None], name: str = "evil.pt2") -> Path:
    """The archive with members replaced, added or (None) left out."""
    target = path.with_name(name)
    with WATCH.paused(), zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for info in old.infolist():
            inner = info.filename.partition("/")[2]
            content = change[inner] if inner in change else old.read(info)
            if content is not None:
                new.writestr(info.filename, content)
        for inner, content in change.items():
            if content is not None and f"{root}/{inner}" not in old.namelist():
                new.writestr(f"{root}/{inner}", content)
    return target


def member(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(item for item in archive.namelist() if item.endswith(name)))


def texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all texts, keys too (marked by a trailing None)."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if isinstance(value, dict):
            yield (*path, key, None)
        if isinstance(item, str):
            yield (*path, key)
        yield from texts(item, (*path, key))


def changed(document: Any, path: tuple[Any, ...], text: str) -> bytes:
    copied = json.loads(json.dumps(document))
    where, is_key = copied, path[-1] is None
    steps = path[:-1] if is_key else path
    for step in steps[:-1]:
        where = where[step]
    if is_key:
        where[text] = where.pop(steps[-1])
    else:
        where[steps[-1]] = text
    return json.dumps(copied).encode()


@pytest.mark.parametrize("name", ["models/model.json", "data/weights/model_weights_config.json"])
def test_hostile_text_in_every_field_of_a_pt2_file(program: Any, nothing_runs: None, name: str) -> None:
    path, x, wanted = program
    document = json.loads(member(path, name))
    places = [place for place in texts(document) if "stack_trace" not in place]
    for number, place in enumerate(places):
        if number % 2 or place[-1] is None and number % 6:  # keys of the same objects come again and again
            continue
        content = changed(document, place, HOSTILE[number % len(HOSTILE)])
        right_or_refused(rewritten(path, {name: content}), x, wanted)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo mpcc_sentinel",)


def test_no_member_of_a_pt2_file_is_unpickled(program: Any, nothing_runs: None) -> None:
    path, x, wanted = program
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Evil()))
        archive.writestr("archive/version", "3")
    evil = buffer.getvalue()
    assert right_or_refused(rewritten(path, {"data/sample_inputs/model.pt": evil}), x, wanted)
    assert right_or_refused(rewritten(path, {"data/sample_inputs/model.pt": None}), x, wanted)
    for name in ("data/weights/model.pt", "data/constants/model.pt", "data/aotinductor/model/x.so", "extra/x"):
        right_or_refused(rewritten(path, {name: evil}), x, wanted)
    config = json.loads(member(path, "model_weights_config.json"))
    config["config"]["head.weight"] |= {"use_pickle": True}
    change: dict[str, bytes | None] = {"data/weights/model_weights_config.json": json.dumps(config).encode()}
    change |= {f"data/weights/weight_{number}": evil for number in range(12)}
    assert not right_or_refused(rewritten(path, change), x, wanted)
    for prefix in ("custom_obj_0", "opaque_obj_0", "tensor_0"):
        entry = {"path_name": prefix, "is_param": False, "use_pickle": True, "tensor_meta": None}
        change = {
            "data/constants/model_constants_config.json": json.dumps({"config": {"c": entry}}).encode(),
            f"data/constants/{prefix}": pickle.dumps(Evil()),
        }
        assert not right_or_refused(rewritten(path, change), x, wanted)


def test_an_old_pickled_program_is_refused(tmp_path: Path, nothing_runs: None) -> None:
    with WATCH.paused():
        with zipfile.ZipFile(tmp_path / "old.pt2", "w") as archive:
            archive.writestr("version", "8.1")
            for name in ("serialized_exported_program.json", "serialized_state_dict.json", "serialized_constants.json"):
                archive.writestr(name, pickle.dumps(Evil()))
        (tmp_path / "bare.pt2").write_bytes(pickle.dumps(Evil()))
    for name in ("old.pt2", "bare.pt2"):
        with pytest.raises(MpccError, match="cannot read it"):
            capture(tmp_path / name)


@pytest.mark.parametrize(
    "target",
    [
        "os.system", "torch.load", "torch.hub.load", "builtins.eval", "_operator.attrgetter", "math.__class__",
        "torch.ops.aten.from_file.default", "torch.ops.aten.save.default", "torch.ops.aten.__class__.__init__",
        "torch.ops.load_library", "torch.ops.higher_order.cond", "torch.ops.aten.relu", "torch.ops.aten.relu.__call__",
    ],
)  # fmt: skip
def test_operators_of_a_pt2_file_come_from_a_closed_table(program: Any, nothing_runs: None, target: str) -> None:
    path, x, wanted = program
    document = json.loads(member(path, "models/model.json"))
    for node in document["graph_module"]["graph"]["nodes"]:
        if node["target"] == "torch.ops.aten.softmax.int":
            node["target"] = target
    assert not right_or_refused(rewritten(path, {"models/model.json": json.dumps(document).encode()}), x, wanted)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x05\x06" + b"\0" * 18, b"\x80\x04." * 9, b"\xff\xfe" * 99])
def test_files_of_another_kind(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"other{suffix}"
    path.write_bytes(content)
    with pytest.raises(MpccError):
        capture(path)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_fifo_is_no_model(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    with pytest.raises(MpccError, match="not a regular file"):
        capture(tmp_path / f"pipe{suffix}")


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"config":' * 50_000, b"\xff\xfe{}", b"null", b'{"graph_module": 3, "schema_version": 8}']
)
def test_json_that_is_no_program(program: Any, content: bytes) -> None:
    path, x, wanted = program
    assert not right_or_refused(rewritten(path, {"models/model.json": content}), x, wanted)


def test_weights_that_grow_when_they_are_read(program: Any) -> None:
    """A broadcast weight of 10^12 elements, and one that is said to be larger than its bytes."""
    path, x, wanted = program
    for sizes, strides in (([10**6, 10**6], [0, 0]), ([10**6, 36], [36, 1]), ([-5, 36], [36, 1])):
        config = json.loads(member(path, "model_weights_config.json"))
        config["config"]["head.weight"]["tensor_meta"] |= {
            "sizes": [{"as_int": size} for size in sizes],
            "strides": [{"as_int": size} for size in strides],
        }
        content = json.dumps(config).encode()
        assert not right_or_refused(rewritten(path, {"data/weights/model_weights_config.json": content}), x, wanted)


def test_a_compressed_member_is_refused(program: Any, tmp_path: Path) -> None:
    path, x, wanted = program
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "bomb.pt2", "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, b"\0" * 10**8 if "weight_0" in info.filename else old.read(info))
    assert not right_or_refused(tmp_path / "bomb.pt2", x, wanted)
