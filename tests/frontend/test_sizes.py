"""Sizes before work: small files that ask for much, and files that are no models, are refused at once."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from mpcc import capture
from mpcc.errors import MpccError
from mpcc.frontend.limits import Limits
from tests.frontend.hostile import member, rewritten, right_or_refused
from tests.models.onnx_build import f, i, model, weights


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
    before = _memory()
    with pytest.raises(MpccError) as caught:
        capture(path)
    assert str(caught.value)
    assert _memory() - before < 2**30


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
