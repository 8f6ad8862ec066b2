"""Nothing that is read ever runs: hostile text in every text field of every kind of model file.

An audit hook watches what the interpreter does while a file is read. What comes out is the right answer or an MpccError.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from mpcc import capture
from mpcc.errors import MpccError
from tests.frontend.hostile import HOSTILE, member, not_watching, rewritten, right_or_refused
from tests.models.onnx_build import model, weights

# ---------------------------------------------------------------------------------------------------------- ONNX


def with_everything(folder: Path) -> onnx.ModelProto:
    """A model with a text in every kind of field: functions, branches, properties, external data, attributes."""
    branch = {
        key: helper.make_graph(
            [helper.make_node(kind, ["c"], [f"{key}.r"], name=f"/if/{key}")],
            key,
            [],
            [helper.make_tensor_value_info(f"{key}.r", TensorProto.FLOAT, None)],
        )
        for key, kind in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    nodes = [
        helper.make_node("Conv", ["x", "stem.weight"], ["c"], name="/stem/Conv", auto_pad="SAME_UPPER"),
        helper.make_node("If", ["yes"], ["d"], name="/gate/If", **branch),
        helper.make_node("Flatten", ["d"], ["e"], name="/Flatten"),
        helper.make_node("Act", ["e"], ["g"], domain="own", name="/act/Act", overload=""),
        helper.make_node("MatMul", ["g", "head.weight"], ["h"], name="/head/MatMul"),
        helper.make_node("Add", ["h", "constant"], ["k"], name="/head/Add"),
        helper.make_node("Softmax", ["k"], ["y"], name="/head/Softmax", axis=-1),
    ]
    proto = model(nodes, {"x": [1, 2, 4, 4]}, ["y"], {"stem.weight": weights(2, 2, 3, 3), "yes": np.array(True),
                                                     "head.weight": weights(32, 5), "constant": weights(5)})  # fmt: skip
    body = [helper.make_node("Gelu", ["a"], ["b"], approximate="none", name="inner")]
    proto.functions.append(helper.make_function("own", "Act", ["a"], ["b"], body, [helper.make_opsetid("", 20)]))
    proto.opset_import[0].version = 20
    proto.opset_import.append(helper.make_opsetid("own", 1))
    for message in (*proto.graph.node, *proto.functions, proto.graph, proto):
        for key, value in (("pkg.torch.onnx.name_scopes", "['', 'stem', 'stem.conv', 'x']"), ("namespace", "a: b/c: d/e: f")):
            message.metadata_props.add(key=key, value=value)
        message.doc_string = "doc"
    proto.producer_name, proto.producer_version, proto.domain = "pytorch", "2", "d"
    proto.graph.value_info.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, ["n", 2, 4, 4]))
    proto.graph.input[0].type.denotation = "IMAGE"
    onnx.save_model(proto, folder / "base.onnx", save_as_external_data=True, location="w.bin", size_threshold=100)
    return onnx.load(folder / "base.onnx", load_external_data=False)


def text_fields(message: Any, path: str = "") -> Iterator[tuple[str, Callable[[str], None]]]:
    """Every text of a protobuf message, empty ones too, with how to set it."""
    for field in message.DESCRIPTOR.fields:
        here = f"{path}.{field.name}"
        value = getattr(message, field.name)
        many = not isinstance(value, (str, bytes, int, float, bool)) and hasattr(value, "__len__")
        if field.type in (field.TYPE_STRING, field.TYPE_BYTES) and field.name != "raw_data":
            for place in range(len(value)) if many else (None,):
                yield here if place is None else f"{here}[{place}]", _setter(message, field, place)
        elif field.type == field.TYPE_MESSAGE:
            for place, item in enumerate(value) if many else [(0, value)] if message.HasField(field.name) else []:
                yield from text_fields(item, f"{here}[{place}]")


def _setter(message: Any, field: Any, place: int | None) -> Callable[[str], None]:
    def write(text: str) -> None:
        value: Any = text.encode() if field.type == field.TYPE_BYTES else text
        if place is None:
            setattr(message, field.name, value)
        else:
            getattr(message, field.name)[place] = value

    return write


def renamed(proto: onnx.ModelProto, old: str, new: str) -> None:
    for name, write in text_fields(proto):
        if name.rpartition(".")[2].partition("[")[0] in ("input", "output", "name") and _read(proto, name) == old:
            write(new)


def _read(proto: Any, path: str) -> Any:
    value = proto
    for part in path.strip(".").split("."):
        name, _, place = part.partition("[")
        value = getattr(value, name)
        if place and hasattr(value, "append"):
            value = value[int(place[:-1])]
    return value


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[onnx.ModelProto, Path, torch.Tensor, torch.Tensor]:
    folder = tmp_path_factory.mktemp("onnx")
    proto = with_everything(folder)
    x = torch.randn(1, 2, 4, 4)
    with torch.no_grad():
        return proto, folder, x, capture(folder / "base.onnx")(x)


@pytest.mark.parametrize("start", range(2))
def test_hostile_text_in_every_field_of_an_onnx_file(base: Any, nothing_runs: list[str], start: int) -> None:
    """Each field gets two texts in five, each text comes to two fields in five, by turns."""
    proto, folder, x, wanted = base
    count = len(list(text_fields(proto)))
    assert count > 200
    path, read = folder / f"evil{start}.onnx", 0
    for place in range(count):
        for text in HOSTILE[(place + 2 * start) % 5 :: 5]:
            evil = onnx.ModelProto()
            evil.CopyFrom(proto)
            _, write = list(text_fields(evil))[place]
            write(text)
            with not_watching():
                path.write_bytes(evil.SerializeToString())
            read += right_or_refused(path, x, wanted)
    assert read > count  # most fields decide nothing


@pytest.mark.parametrize("old", ["x", "stem.weight", "head.weight", "constant", "c", "d", "y"])
def test_hostile_names_of_values_are_only_names(base: Any, nothing_runs: list[str], old: str) -> None:
    proto, folder, x, wanted = base
    for text in HOSTILE:
        evil = onnx.ModelProto()
        evil.CopyFrom(proto)
        renamed(evil, old, text)
        with not_watching():
            (folder / "renamed.onnx").write_bytes(evil.SerializeToString())
        read = right_or_refused(folder / "renamed.onnx", x, wanted)
        assert read or text in ("", HOSTILE[-1])


# ----------------------------------------------------------------------------------------------------------- .pt2


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
def test_hostile_text_in_every_field_of_a_pt2_file(program: Any, nothing_runs: list[str], name: str) -> None:
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


def test_no_member_of_a_pt2_file_is_unpickled(program: Any, nothing_runs: list[str]) -> None:
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


def test_an_old_pickled_program_is_refused(tmp_path: Path, nothing_runs: list[str]) -> None:
    with not_watching():
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
def test_operators_of_a_pt2_file_come_from_a_closed_table(program: Any, nothing_runs: list[str], target: str) -> None:
    path, x, wanted = program
    document = json.loads(member(path, "models/model.json"))
    for node in document["graph_module"]["graph"]["nodes"]:
        if node["target"] == "torch.ops.aten.softmax.int":
            node["target"] = target
    assert not right_or_refused(rewritten(path, {"models/model.json": json.dumps(document).encode()}), x, wanted)
