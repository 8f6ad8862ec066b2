"""Nothing that is read ever runs: hostile text in every text field of an ONNX file, and sizes that no file means.

An audit hook watches what the interpreter does while a file is read. What comes out is the right answer or an MpccError.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from mpcc import capture
from mpcc.errors import MpccError
from mpcc.frontend.limits import Limits
from tests.frontend.hostile import HOSTILE, WATCH, right_or_refused
from tests.models.onnx_build import f, i, model, weights


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
def test_hostile_text_in_every_field_of_an_onnx_file(base: Any, nothing_runs: None, start: int) -> None:
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
            with WATCH.paused():
                path.write_bytes(evil.SerializeToString())
            read += right_or_refused(path, x, wanted)
    assert read > count  # most fields decide nothing


@pytest.mark.parametrize("old", ["x", "stem.weight", "head.weight", "constant", "c", "d", "y"])
def test_hostile_names_of_values_are_only_names(base: Any, nothing_runs: None, old: str) -> None:
    proto, folder, x, wanted = base
    for text in HOSTILE:
        evil = onnx.ModelProto()
        evil.CopyFrom(proto)
        renamed(evil, old, text)
        with WATCH.paused():
            (folder / "renamed.onnx").write_bytes(evil.SerializeToString())
        read = right_or_refused(folder / "renamed.onnx", x, wanted)
        assert read or text in ("", HOSTILE[-1])


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
