"""Nothing that is read ever runs: hostile text in every text field of every kind of model file, and sizes that no file means.

An audit hook watches what the interpreter does while a file is read. What comes out is the right answer or an MpccError.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mpcc import capture
from mpcc.errors import MpccError
from mpcc.frontend.limits import Limits
from tests.models.onnx_build import f, i, model, weights

RUN = "__import__('mpcc_sentinel')"
HOSTILE = [
    f'"){RUN}("',
    f'x", {RUN}) or getattr(self, "x',
    f"');{RUN};('",
    f"a\n    {RUN}\n    #",
    f"a = {RUN}",
    f"['', {RUN}, '{RUN}', 'x']",
    f"/a/{RUN}/b",
    f"a.{RUN}.b",
    f"{{{RUN}}}",
    f"%s{RUN}\\",
    "class",
    "lambda.weight",
    "self",
    "ﬁ.ｅval",
    "\u202egnp.exe",
    "../../../../tmp/mpcc_sentinel",
    "",
    "A" * 20000,
    "\x1b[2J\x00",
]
watched: list[str] | None = None


def _watch(event: str, args: tuple[Any, ...]) -> None:
    """What no reader of a model does; imports of the standard library and of torch's parts may happen lazily."""
    if watched is None:
        return
    if event in ("os.system", "subprocess.Popen", "pickle.find_class", "os.posix_spawn", "os.exec", "socket.connect"):
        watched.append(f"{event} {args[:2]}")
    if event in ("import", "os.mkdir") and "sentinel" in str(args[0]):
        watched.append(f"{event} {args[0]}")
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wxa+") and "/dev/" not in str(args[0]):
        watched.append(f"{event} {args[:2]}")
    if event == "compile" and args[0] is not None and RUN in str(args[0]) and "def _watch" not in str(args[0]):
        watched.append(f"{event} {str(args[0])[:200]}")


sys.addaudithook(_watch)


@pytest.fixture
def nothing_runs() -> Iterator[list[str]]:
    global watched
    watched = []
    try:
        yield watched
        assert watched == []
    finally:
        watched = None


def right_or_refused(path: Path, x: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether it was read; what is read is right."""
    try:
        graph = capture(path)
    except MpccError as error:
        assert "\x1b" not in str(error)
        return False
    with torch.no_grad():
        found = graph(x)
    assert torch.allclose(found[0] if isinstance(found, tuple) else found, wanted, atol=1e-4)
    return True


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
            _put(path, evil.SerializeToString())
            read += right_or_refused(path, x, wanted)
    assert read > count  # most fields decide nothing


@pytest.mark.parametrize("old", ["x", "stem.weight", "head.weight", "constant", "c", "d", "y"])
def test_hostile_names_of_values_are_only_names(base: Any, nothing_runs: list[str], old: str) -> None:
    proto, folder, x, wanted = base
    for text in HOSTILE:
        evil = onnx.ModelProto()
        evil.CopyFrom(proto)
        renamed(evil, old, text)
        _put(folder / "renamed.onnx", evil.SerializeToString())
        read = right_or_refused(folder / "renamed.onnx", x, wanted)
        assert read or text in ("", HOSTILE[-1])


def _put(path: Path, content: bytes) -> None:
    """Written with the watch off: the test's own writing is not the reader's."""
    global watched
    kept, watched = watched, None
    path.write_bytes(content)
    watched = kept


# ----------------------------------------------------------------------------------------------------------- .pt2


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(2, 4, 2), nn.BatchNorm2d(4), nn.Linear(36, 5)
        self.register_buffer("shift", torch.ones(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            t = self.norm(self.stem(x)).flatten(1)
        first, second = nn.functional.gelu(t, approximate="tanh").chunk(2, 1)
        return (self.head(torch.cat([first, second], 1)) + self.shift).softmax(-1)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor, torch.Tensor]:
    path, x, small = tmp_path_factory.mktemp("pt2") / "small.pt2", torch.randn(1, 2, 4, 4), Small().eval()
    torch.export.save(torch.export.export(small, (x,)), path)
    return path, x, small(x).detach()


def rewritten(path: Path, change: dict[str, bytes | None], name: str = "evil.pt2") -> Path:
    """The archive with members replaced, added or (None) left out."""
    global watched
    kept, watched = watched, None
    target = path.with_name(name)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for info in old.infolist():
            inner = info.filename.partition("/")[2]
            content = change[inner] if inner in change else old.read(info)
            if content is not None:
                new.writestr(info.filename, content)
        for inner, content in change.items():
            if content is not None and f"{root}/{inner}" not in old.namelist():
                new.writestr(f"{root}/{inner}", content)
    watched = kept
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
    global watched
    watched = None
    with zipfile.ZipFile(tmp_path / "old.pt2", "w") as archive:
        archive.writestr("version", "8.1")
        for name in ("serialized_exported_program.json", "serialized_state_dict.json", "serialized_constants.json"):
            archive.writestr(name, pickle.dumps(Evil()))
    (tmp_path / "bare.pt2").write_bytes(pickle.dumps(Evil()))
    watched = nothing_runs
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


# ---------------------------------------------------------------------------------------------------------- sizes


def bomb(kind: str) -> onnx.ModelProto:
    """A small file that asks for much."""
    many, square = i(10**9), i(10**6, 10**6)
    add = [helper.make_node("Add", ["x", "b"], ["y"])]
    shapes = {"x": [1, 4]}
    if kind == "constant_of_shape":
        return model([helper.make_node("ConstantOfShape", ["n"], ["b"]), *add], shapes, ["y"], {"n": many})
    if kind == "expand":
        return model([helper.make_node("Expand", ["one", "n"], ["b"]), *add], shapes, ["y"], {"n": square, "one": f(1, 2)[:1]})
    if kind == "expand_input":
        return model([helper.make_node("Expand", ["x", "n"], ["y"])], {"x": [1, 1]}, ["y"], {"n": square})
    if kind == "tile":
        return model([helper.make_node("Tile", ["x", "n"], ["y"])], shapes, ["y"], {"n": i(10**9, 10**3)})
    if kind == "tile_constant":
        return model([helper.make_node("Tile", ["f", "n"], ["b"]), *add], shapes, ["y"], {"n": many, "f": f(1, 2)})
    if kind == "pad":
        return model([helper.make_node("Pad", ["f", "n"], ["b"]), *add], shapes, ["y"], {"n": i(0, 10**10), "f": f(1, 2)})
    if kind == "range":
        nodes = [helper.make_node("Range", ["a", "n", "d"], ["r"]), helper.make_node("Cast", ["r"], ["b"], to=1), *add]
        return model(nodes, shapes, ["y"], {"a": np.int64(0), "n": np.int64(10**11), "d": np.int64(1)})
    if kind == "one_hot":
        nodes = [helper.make_node("OneHot", ["p", "n", "v"], ["b"]), *add]
        return model(nodes, shapes, ["y"], {"p": i(1), "n": np.int64(10**10), "v": f(0, 1)})
    if kind == "doubling":
        nodes = [helper.make_node("Concat", [f"d{k}", f"d{k}"], [f"d{k + 1}"], axis=0) for k in range(40)]
        return model([*nodes, helper.make_node("Add", ["x", "d40"], ["y"])], shapes, ["y"], {"d0": weights(64, 4)})
    if kind == "doubling_input":
        nodes = [helper.make_node("Concat", [f"d{k}", f"d{k}"], [f"d{k + 1}"], axis=0) for k in range(40)]
        return model(nodes, {"d0": [1, 4]}, ["d40"])
    if kind == "nodes":
        return model([helper.make_node("Relu", [f"r{k}"], [f"r{k + 1}"]) for k in range(30_000)], {"r0": [1, 4]}, ["r30000"])
    if kind == "split":
        outputs = [f"o{k}" for k in range(3)]
        return model([helper.make_node("Split", ["x"], outputs, num_outputs=10**9, axis=1)], {"x": [1, 4]}, ["o0"], opset=18)
    if kind == "functions":
        proto = model([helper.make_node("F40", ["x"], ["y"], domain="own")], shapes, ["y"])
        for k in range(41):
            inner = f"F{k - 1}" if k else "Relu"
            calls = [helper.make_node(inner, [a], [b], domain="own" if k else "") for a, b in (("a", "m"), ("m", "b"))]
            opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
            proto.functions.append(helper.make_function("own", f"F{k}", ["a"], ["b"], calls, opsets))
        proto.opset_import.append(helper.make_opsetid("own", 1))
        return proto
    if kind == "loop":
        body = helper.make_graph(
            [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["v"], ["w"])],
            "body",
            [helper.make_tensor_value_info(n, t, s) for n, t, s in (("k", 7, []), ("go", 9, []), ("v", 1, [1, 4]))],
            [helper.make_tensor_value_info("on", 9, []), helper.make_tensor_value_info("w", 1, [1, 4])],
        )
        loop = helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)
        return model([loop], shapes, ["y"], {"n": np.int64(10**9)})
    if kind == "products":
        nodes = [helper.make_node("ConstantOfShape", ["n"], ["m0"], value=numpy_helper.from_array(f(1)))]
        nodes += [helper.make_node("MatMul", [f"m{k}", f"m{k}"], [f"m{k + 1}"]) for k in range(500)]
        nodes += [helper.make_node("MatMul", ["x", "m500"], ["y"])]
        return model(nodes, {"x": [1, 4000]}, ["y"], {"n": i(4000, 4000)})
    proto = model(add, shapes, ["y"], {"b": weights(4)})
    proto.graph.initializer[0].dims[:] = [10**9, 10**3]
    return proto


KINDS = [
    *("constant_of_shape", "expand", "expand_input", "tile", "tile_constant", "pad", "range", "one_hot", "doubling"),
    *("doubling_input", "nodes", "split", "functions", "loop", "products", "dims"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_file_that_asks_for_much_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    """Below a gigabyte: the process may not grow by more while it reads."""
    path = tmp_path / "bomb.onnx"
    onnx.save(bomb(kind), path)
    before, start = _memory(), time.process_time()
    with pytest.raises(MpccError) as caught:
        capture(path)
    assert str(caught.value)
    assert _memory() - before < 2**30 and time.process_time() - start < 20  # nowhere near, and no bomb ends on its own


def _memory() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_the_limits_can_be_raised() -> None:
    proto = model(
        [helper.make_node("Relu", [f"r{k}"], [f"r{k + 1}"]) for k in range(30)], {"r0": [1, 4]}, ["r30"]
    )  # fmt: skip
    with pytest.raises(MpccError, match=r"more than 20 nodes\n.*Limits"):
        capture(proto, limits=Limits(nodes=20))
    assert capture(proto, limits=Limits(nodes=20).times(2))(torch.zeros(1, 4)).shape == (1, 4)


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
